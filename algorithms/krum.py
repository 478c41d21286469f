"""Krum and Multi-Krum: the models that lie among others (Blanchard et al., arXiv 1703.02757, section 4).

A wrong model that differs lies far from the others, one that lies close to them does little harm. Up to f sites may be
wrong, of K >= 2 f + 3; Krum takes one site's model as it is, Multi-Krum averages those that look right.

    score(k) = sum of ||w_t^k - w_t^j||^2 over the K - f - 2 other sites j that are nearest to k
    Krum        w_{t+1} = the w_t^k with the smallest score
    Multi-Krum  w_{t+1} = plain mean of the m models with the smallest scores

With different institutions the odd one out is an honest one: Krum is a defence, not a way to a better model.

Shared: nothing. Privacy: Krum broadcasts the model of a single site, which others may analyse, and the server must see
single updates. Secure aggregation: no, distances are between single models. Cost: K^2 / 2 distances at the server,
which holds all models of a round in memory, 1.00 times FedAvg's time. Settings that matter: ``num_byzantine`` is f,
``num_select`` is m, at most K - f.

Released code: Flower 1.41 loses the distances of similar models in float32, and its Multi-Krum weights by cases.

Deviations: with fewer than f + 3 sites one neighbour counts, and the paper's guarantee does not hold. Ties, which three
sites always have, go to the model with the smaller distance to all others, so that the order of sites has no say. Sites
count the same, whatever their cases: no setting is FedAvg's, but Multi-Krum of all is, if weights are uniform.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from fedlight.plugins.collecting import CollectingAggregator, squared_distances
from fedlight.plugins.disclosure import Disclosure
from fedlight.state import RunningMean, State
from fedlight.update import RoundContext

log = logging.getLogger("fedlight")


class Krum(CollectingAggregator):
    """Takes the model of the site that lies closest among the others.

    Args:
        num_byzantine: How many sites may be wrong.
    """

    def __init__(self, num_byzantine: int = 1) -> None:
        self.num_byzantine = num_byzantine

    def validate(self) -> None:
        _require_not_negative(self.num_byzantine)

    def discloses(self) -> Disclosure | None:
        return Disclosure("the model of the site that is chosen, to all sites", "none", "the model of one single site")

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        _warn_of_few(context, self.num_byzantine)

    def combine(self, states: Sequence[State], weights: Sequence[float]) -> State:
        return dict(states[ranking(states, self.num_byzantine)[0]])


class MultiKrum(CollectingAggregator):
    """Averages the models of the sites that lie closest among the others.

    Args:
        num_byzantine: How many sites may be wrong.
        num_select: How many models are averaged; all but ``num_byzantine`` if left out.
    """

    def __init__(self, num_byzantine: int = 1, num_select: int | None = None) -> None:
        self.num_byzantine = num_byzantine
        self.num_select = num_select

    def validate(self) -> None:
        _require_not_negative(self.num_byzantine)
        if self.num_select is not None and self.num_select < 1:
            raise ValueError(
                f"num_select must be at least 1, got {self.num_select}. Leave it out for all but the wrong."
            )

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        _warn_of_few(context, self.num_byzantine)

    def combine(self, states: Sequence[State], weights: Sequence[float]) -> State:
        select = self.num_select or max(1, len(states) - self.num_byzantine)
        mean = RunningMean()
        for index in sorted(ranking(states, self.num_byzantine)[:select]):
            mean.add(states[index], weight=1)
        return mean.result()


def scores(squared: Tensor, num_byzantine: int) -> list[float]:
    """Returns every model's sum of squared distances to its K - f - 2 nearest neighbours, at least one.

    Args:
        squared: (K, K), squared distances between the models.
        num_byzantine: f.
    """
    neighbours = max(1, len(squared) - num_byzantine - 2)
    nearest_first = squared.sort(1).values[:, 1:]  # without the zero to itself
    return nearest_first[:, :neighbours].sum(1).tolist()


def ranking(states: Sequence[State], num_byzantine: int) -> list[int]:
    """Returns the models' indices from the smallest score to the largest."""
    squared = squared_distances(states)
    score, spread = scores(squared, num_byzantine), scores(squared, -2)
    return sorted(range(len(states)), key=lambda k: (score[k], spread[k]))


def _require_not_negative(num_byzantine: int) -> None:
    if num_byzantine < 0:
        raise ValueError(f"num_byzantine must not be negative, got {num_byzantine}. Use 1 for one wrong site.")


def _warn_of_few(context: RoundContext, num_byzantine: int) -> None:
    """Says in the first round that there are too few sites for the guarantee, K >= 2 f + 3."""
    sites, needed = len(context.cohort), 2 * num_byzantine + 3
    if context.round == 1 and sites < needed:
        log.warning("num_byzantine %d holds its promise from %d sites on, got %d", num_byzantine, needed, sites)
