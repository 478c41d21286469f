"""Aggregators that need all updates of a round at once: medians, selections."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.aggregator import Aggregator
from fedlight.state import State
from fedlight.update import RoundContext, Update


class CollectingAggregator(Aggregator):
    """Keeps the updates of a round in memory and combines them when all are there."""

    def begin(self, context: RoundContext, params: State) -> None:
        self._context = context
        self._start = params
        self._updates: dict[str, State] = {}

    def add(self, update: Update) -> None:
        self._updates[update.site] = update.params

    def finish(self) -> State:
        updates, self._updates = self._updates, {}
        weights = [self._context.weights[site] for site in updates]
        return self.combine(list(updates.values()), weights)

    @abstractmethod
    def combine(self, states: Sequence[State], weights: Sequence[float]) -> State:
        """Returns the next parameters from those of the sites, which are not to be modified."""


def squared_distances(states: Sequence[State]) -> Tensor:
    """Returns the squared Euclidean distances between states, each laid out as one vector: (K, K), float64.

    Differences come first, in float64: from |x|^2 + |y|^2 - 2 x.y nothing would be left of the distance of two
    models that are much alike.
    """
    distances = torch.zeros(len(states), len(states), dtype=torch.float64)
    for i, first in enumerate(states):
        for j in range(i):
            parts = (value.double() - states[j][name].double() for name, value in first.items())
            distances[i, j] = distances[j, i] = sum(float(part.square().sum()) for part in parts)
    return distances
