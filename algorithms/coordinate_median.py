"""CoordinateMedian: the median of every single parameter (Yin et al., arXiv 1803.01498, Definition 1).

One wrong site can move a mean as far as it likes, and a median only to the value of the next site. It holds as long as
fewer than half of the sites are wrong.

    w_{t+1}[i] = median of w_t^k[i] over the sites k of the round;  of an even number, the mean of the two middle values

Sites whose data differ honestly are cut off like wrong ones, which costs accuracy with few and different institutions.

Shared: nothing. Privacy: as FedAvg, but the server must see single updates. Secure aggregation: no, a median is not a
sum. Cost: a sort at the server, which holds all models of a round in memory, 1.00 times FedAvg's time. Settings that
matter: there is nothing to set.

Deviations: the paper takes medians of gradients; with a common w_t those of models are the same. Sites count the same,
whatever their cases, so no setting is FedAvg's; with one or two sites it is the plain mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.collecting import CollectingAggregator
from fedlight.state import State, zip_map


class CoordinateMedian(CollectingAggregator):
    """Takes the median of every single parameter over the sites."""

    def combine(self, states: Sequence[State], weights: Sequence[float]) -> State:
        return zip_map(median, *states)


def median(*values: Tensor) -> Tensor:
    """Returns the median of every entry over several tensors."""
    ordered = torch.stack(values).sort(0).values
    middle = ordered[(len(values) - 1) // 2].double() + ordered[len(values) // 2].double()
    return (middle / 2).to(ordered.dtype)
