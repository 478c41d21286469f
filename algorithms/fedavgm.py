"""FedAvgM: averaging with momentum at the server (Hsu et al., arXiv 1909.06335, section 4.3).

The mean update of a round is taken for a gradient, and the server goes along a running sum of these, so that what
differs from round to round cancels.

    delta_t = sum_k p_k (w_{t+1}^k - w_t)
    v_{t+1} = momentum v_t + delta_t             v_0 = 0
    w_{t+1} = w_t + server_lr v_{t+1}

The last line is computed as

    w_{t+1} = mean + server_lr momentum v_t + (server_lr - 1) delta_t        mean = sum_k p_k w_{t+1}^k

which is the same sum in another order: with momentum 0 and server_lr 1 nothing is added to FedAvg's mean, so the bits
are FedAvg's.

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, only the mean is needed. Cost: 1.00 times FedAvg's time;
the server keeps one more model. Settings that matter: ``momentum``: with 0.9 a steady direction is followed ten times
as far, so sites may need a smaller learning rate.

Released code: fluke throws the first round away; FedFA's comparison runs FedAvgM with a momentum of 0.01.

Deviations: the paper subtracts delta = w_t - w^k; this adds the opposite. The paper has no server_lr; it is the one of
Reddi et al., arXiv 2003.00295, and 1 by default. Running statistics (buffers) have no momentum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.state import State, zip_map


class FedAvgM(AveragingAggregator):
    """Averages the sites' parameters and keeps a momentum of the server's steps.

    Args:
        momentum: How much of the last step is kept, in [0, 1).
        server_lr: Length of the server's step; with momentum 0, a server_lr of 1 gives FedAvg.
    """

    linear = True
    null: ClassVar[Mapping[str, Any]] = {"momentum": 0.0, "server_lr": 1.0}

    def __init__(self, momentum: float = 0.9, server_lr: float = 1.0) -> None:
        self.momentum = momentum
        self.server_lr = server_lr
        self._velocity: State = {}

    def validate(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}. The paper uses 0.9.")
        if not self.server_lr > 0:
            raise ValueError(f"server_lr must be positive, got {self.server_lr}. To take the mean's step, use 1.")

    def step(self, start: State, mean: State) -> State:
        delta = zip_map(torch.sub, mean, start)
        velocity = self._velocity or zip_map(torch.zeros_like, delta)
        self._velocity = zip_map(lambda v, d: self.momentum * v + d, velocity, delta)
        return zip_map(self._next, mean, velocity, delta)

    def _next(self, mean: Tensor, velocity: Tensor, delta: Tensor) -> Tensor:
        return mean + self.server_lr * self.momentum * velocity + (self.server_lr - 1) * delta

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": dict(self._velocity)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._velocity = dict(state["velocity"])
