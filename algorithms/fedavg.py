"""FedAvg: the average of what the sites learned (McMahan et al., arXiv 1602.05629, Algorithm 1).

Every site trains the model of the round on its own images for a while; the next model is the mean of theirs, weighted
by their cases.

    w_{t+1} = sum_k p_k w_{t+1}^k        p_k = n_k / sum_j n_j, over the sites k of the round

Shared: nothing. Privacy: images stay at the site and its model leaves it: the server sees every one, and parameters can
reveal training data. Secure aggregation: yes, only the weighted sum is needed. Cost: it is what all others are compared
with, 1.00 times FedAvg's time. Settings that matter: it has none of its own; ``local_steps`` or ``local_epochs`` and
the learning rate.

Released code: Flower 1.41 turns integer buffers into floating point.

Deviations: the paper's n_k is the number of a site's training examples. Here it is the site's weight in the round: its
training cases, or 1 under uniform weighting. The sum is taken in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.state import State


class FedAvg(AveragingAggregator):
    """Averages the sites' parameters, weighted by their training cases."""

    linear = True
    null: ClassVar[Mapping[str, Any]] = {}

    def step(self, start: State, mean: State) -> State:
        return mean
