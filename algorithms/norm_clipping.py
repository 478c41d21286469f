"""NormClipping: no site moves the model further than a bound (Sun et al., arXiv 1911.07963, section 4).

A site that sends something huge, by fault or on purpose, then counts no more than others. It is the clipping of central
differential privacy too, without the noise.

    delta_k = w_t^k - w_t
    w_{t+1} = w_t + sum_k p_k delta_k min(1, max_norm / ||delta_k||)         one norm over all parameters

Shared: nothing. Privacy: as FedAvg; clipping without noise promises none. Secure aggregation: no, the server clips
single updates; sites could clip their own, if they are trusted to. Cost: 1.00 times FedAvg's time; the server holds all
models of a round in memory. Settings that matter: ``max_norm``. A fixed one depends on network, learning rate and local
steps: a step of Adam moves a parameter by about the learning rate at most, so s steps at rate 0.003 have a norm of
hardly more than 0.003 s sqrt(493 k) = 2.1 s for plain-16. Left out, it is the median of the round's norms, which fits
itself and clips about half of the sites. Infinite gives FedAvg.

Released code: Flower 1.41 divides by zero for an update that is zero; its adaptive bound counts the clipped updates but
moves as if they were the unclipped ones, so that it runs away.

Deviations: the median as a bound is not in the paper, which fixes M. It divides by max(1, ||delta_k|| / M), the same as
here. An update within the bound enters as the model that it is, so that FedAvg's bits remain where nothing is clipped.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from fedlight.plugins.collecting import CollectingAggregator
from fedlight.state import RunningMean, State, zip_map


class NormClipping(CollectingAggregator):
    """Averages updates whose length is bounded.

    Args:
        max_norm: Largest Euclidean norm of an update; the median of the round's if left out, infinite gives FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"max_norm": float("inf")}

    def __init__(self, max_norm: float | None = None) -> None:
        self.max_norm = max_norm

    def validate(self) -> None:
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {self.max_norm}. Infinite (.inf) gives FedAvg.")

    def combine(self, states: Sequence[State], weights: Sequence[float]) -> State:
        norms = [norm(zip_map(torch.sub, state, self._start)) for state in states]
        bound = statistics.median(norms) if self.max_norm is None else self.max_norm
        mean = RunningMean()
        for state, weight, length in zip(states, weights, norms, strict=True):
            mean.add(state if length <= bound else shortened(self._start, state, bound / length), weight)
        return mean.result()


def norm(delta: State) -> float:
    """Returns the Euclidean norm of a state laid out as one vector, computed in float64."""
    return float(sum(float(value.double().square().sum()) for value in delta.values()) ** 0.5)


def shortened(start: State, end: State, share: float) -> State:
    """Returns where one is after a share of the way."""
    return zip_map(lambda start, end: start + share * (end - start), start, end)
