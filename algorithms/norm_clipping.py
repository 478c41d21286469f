"""NormClipping: no site moves the model further than a bound (Sun et al., arXiv 1911.07963, section 4).

    delta_k = w_t^k - w_t
    w_{t+1} = w_t + sum_k p_k delta_k min(1, max_norm / ||delta_k||)         one norm over all parameters

A site that sends something huge, by fault or on purpose, then counts no more than others. It is the clipping of central
differential privacy too, without the noise.

Shares: nothing beside the model (plain-16: 1.97 MB down, 1.97 MB up a round). Privacy as FedAvg; without noise clipping
promises none. The server clips single updates: not compatible with secure aggregation, unless sites clip their own and
are trusted to. Time: FedAvg's.
Settings: ``max_norm`` depends on network, learning rate and local steps: start above the norm that honest updates have.
A step of Adam moves a parameter by about the learning rate at most, so s steps at rate 0.003 have a norm of hardly more
than 0.003 s sqrt(493 k) = 2.1 s for plain-16. Infinite gives FedAvg. The default is a round number, not the paper's.
Known errors: Flower 1.41 divides by zero for an update that is zero.
Deviation: the paper divides by max(1, ||delta_k|| / M), the same. An update within the bound enters as the model that
it is, so that FedAvg's bits remain where nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from fedlight.plugins import Aggregator
from fedlight.state import RunningMean, State, zip_map
from fedlight.update import RoundContext, Update


class NormClipping(Aggregator):
    """Averages updates whose length is bounded.

    Args:
        max_norm: Largest Euclidean norm of an update; infinite gives FedAvg.
    """

    averages = False
    null: ClassVar[Mapping[str, Any]] = {"max_norm": float("inf")}

    def __init__(self, max_norm: float = 10.0) -> None:
        self.max_norm = max_norm

    def validate(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {self.max_norm}. Infinite (.inf) gives FedAvg.")

    def begin(self, context: RoundContext, params: State) -> None:
        self._weights = context.weights
        self._start = params
        self._mean = RunningMean()

    def add(self, update: Update) -> None:
        delta = zip_map(torch.sub, update.params, self._start)
        scale = clip_scale(delta, self.max_norm)
        clipped = zip_map(lambda start, d: start + scale * d, self._start, delta) if scale < 1 else update.params
        self._mean.add(clipped, self._weights[update.site])

    def finish(self) -> State:
        return self._mean.result()


def clip_scale(delta: State, max_norm: float) -> float:
    """Returns min(1, max_norm / ||delta||), 1 for a delta of zero; the norm is computed in float64."""
    norm = sum(float(value.double().square().sum()) for value in delta.values()) ** 0.5
    return min(1.0, max_norm / norm) if norm else 1.0
