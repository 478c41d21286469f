"""FedGMA: gradient masked averaging, small steps where sites disagree (Tenison et al., arXiv 2201.11986).

A parameter that the sites move in different directions has probably learned something that holds at some of them only.
Its step is shortened by how little they agree on its sign; the mean itself stays FedAvg's.

    delta_k = w_t^k - w_t                         A = | 1/K sum_k sign(delta_k) |        agreement, in [0, 1]
    mask    = 1 where A >= threshold, else A
    w_{t+1} = w_t + server_lr mask * sum_k p_k delta_k                                   coordinate by coordinate

Shared: nothing. Privacy: as FedAvg. Secure aggregation: no, the server takes signs from single updates; sites would
have to make them and send a second sum. Cost: 1.00 times FedAvg's time. Settings that matter: ``threshold`` (0.1, 0.4
and 0.9 are common choices); with three sites agreement is 1/3 or 1, so all thresholds in between are one.

Released code: FedDG_Benchmark inverts the mask where all agree; declearn weights the signs by cases.

Deviations: signs count every site once, whatever its weight. The last line is computed as mean + (server_lr mask - 1)
sum_k p_k delta_k, the same sum in another order: with threshold 0 and server_lr 1 the bits are FedAvg's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.state import RunningMean, State, zip_map
from fedlight.update import RoundContext, Update


class FedGMA(AveragingAggregator):
    """Averages, and goes less far where the sites disagree on the direction.

    Args:
        threshold: Agreement from which a parameter makes its full step, in [0, 1]; 0 with server_lr 1 gives FedAvg.
        server_lr: Length of the server's step.
    """

    null: ClassVar[Mapping[str, Any]] = {"threshold": 0.0, "server_lr": 1.0}

    def __init__(self, threshold: float = 0.4, server_lr: float = 1.0) -> None:
        self.threshold = threshold
        self.server_lr = server_lr

    def validate(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}. 0 gives FedAvg; try 0.4.")
        if not self.server_lr > 0:
            raise ValueError(f"server_lr must be positive, got {self.server_lr}. To take the mean's step, use 1.")

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        self._signs = RunningMean()

    def add(self, update: Update) -> None:
        super().add(update)
        self._signs.add(zip_map(lambda w, start: torch.sign(w - start).double(), update.params, self._start), weight=1)

    def step(self, start: State, mean: State) -> State:
        masks = zip_map(lambda mean_sign: mask(mean_sign.abs(), self.threshold), self._signs.result())
        return zip_map(self._next, mean, start, masks)

    def _next(self, mean: Tensor, start: Tensor, mask: Tensor) -> Tensor:
        return (mean + (self.server_lr * mask - 1) * (mean - start)).to(mean.dtype)


def mask(agreement: Tensor, threshold: float) -> Tensor:
    """Returns 1 where the agreement reaches the threshold, elsewhere the agreement itself."""
    return torch.where(agreement >= threshold, 1.0, agreement)
