"""q-FFL: sites with a larger loss count more (Li et al., arXiv 1905.10497, q-FedAvg, Algorithm 2).

With q = 0 it is FedAvg; the larger q, the more the worst site decides, and with q -> infinity nobody else. h_k bounds
the curvature of F_k^(q + 1), which gives every q a step of its own length without tuning.

    min_w  sum_k p_k / (q + 1) F_k(w)^(q + 1)                                L = 1 / lr
    Delta_k = F_k(w_t)^q L (w_t - w_t^k)                                     F_k(w_t): loss at the start of the round
    h_k     = q F_k(w_t)^(q - 1) ||L (w_t - w_t^k)||^2 + L F_k(w_t)^q
    w_{t+1} = w_t - sum_k p_k Delta_k / sum_k p_k h_k

Shared: nothing but one number, the mean loss before training, among a site's metrics. Privacy: the loss of a site is
known to the server. Secure aggregation: no; it would be possible if sites weighted their own updates, which they do not
here. Cost: one pass without gradient over the training cases in every round, 1.10 times FedAvg's time for a round of
the quickstart. Settings that matter: ``q`` (the paper's range from 0.001 to 5, by data set), and ``lr``, which stands
for the inverse of the loss's curvature and should be the local SGD's. A small lr or a long local way makes h_k large
and the step short: where training stalls, raise lr. Under Adam, lr is a setting without a counterpart at the sites.

Deviations: the paper samples sites by p_k and then weights them alike; here p_k is the weight of the sum, which is the
same objective. F_k is taken over training batches with augmentation, in evaluation mode, and at least 1e-10 as in the
authors' code. The last line is computed as mean + (ratio - 1)(mean - w_t), mean = sum_k p_k F_k^q w_t^k / sum_k p_k
F_k^q, the same in another order: FedAvg's bits for q = 0. Buffers are averaged with the usual weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.state import State, zip_map
from fedlight.update import RoundContext, Update

LEAST_LOSS = 1e-10
"""F^(q - 1) is not defined for a loss of 0."""


class QFFL(AveragingAggregator):
    """Averages with weights that grow with a site's loss, and steps the shorter, the steeper that is.

    Args:
        q: Fairness; 0 gives FedAvg.
        lr: Inverse of the curvature, the learning rate of the sites' SGD.
    """

    averages = False
    measures = ("start_loss",)
    null: ClassVar[Mapping[str, Any]] = {"q": 0.0}

    def __init__(self, q: float = 1.0, lr: float = 0.1) -> None:
        self.q = q
        self.lr = lr

    def validate(self) -> None:
        if not self.q >= 0:
            raise ValueError(f"q must not be negative, got {self.q}. 0 gives FedAvg; try 1.")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}. Use the learning rate of the sites.")

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        self._bound = 0.0  # sum of p_k h_k / L

    def add(self, update: Update) -> None:
        weight = self._weights[update.site]
        loss = max(update.metrics["start_loss"], LEAST_LOSS)
        self._mean.add(update.params, weight * loss**self.q)  # a mean with weights p_k F_k^q
        self._bound += weight * bound(loss, _squared_distance(update.params, self._start), self.q, self.lr)

    def step(self, start: State, mean: State) -> State:
        ratio = self._mean.total / self._bound  # at most 1, and 1 for q = 0
        return zip_map(lambda mean, w: mean + (ratio - 1) * (mean - w), mean, start)


def bound(loss: float, squared_distance: float, q: float, lr: float) -> float:
    """Returns h_k / L = q F^(q - 1) ||w - w_k||^2 / lr + F^q."""
    return float(q * loss ** (q - 1) * squared_distance / lr + loss**q)


def _squared_distance(first: State, second: State) -> float:
    return sum(float(_difference(value, second[name]).square().sum()) for name, value in first.items())


def _difference(first: Tensor, second: Tensor) -> Tensor:
    return first.double() - second.double()
