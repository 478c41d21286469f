"""FedAvg: the average of what the sites learned (McMahan et al., arXiv 1602.05629, Algorithm 1).

    w_{t+1} = sum_k p_k w_{t+1}^k        p_k = n_k / sum_j n_j, over the sites k of the round

The paper's n_k is the number of a site's training examples. Here it is the site's weight in the round: its training
cases, or 1 under uniform weighting. The sum is taken in float64 and rounded once.
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
