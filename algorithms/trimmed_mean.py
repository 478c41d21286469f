"""TrimmedMean: the mean without the extremes, for every single parameter (Yin et al., arXiv 1803.01498, Definition 2).

It withstands as many wrong sites as it cuts off at each end, and loses less than a median where all are right.

    w_{t+1}[i] = mean of w_t^k[i] over the sites k that are left when the floor(trim K) smallest and as many largest go

Shared: nothing. Privacy: as FedAvg, but the server must see single updates. Secure aggregation: no, extremes are found
among single updates. Cost: a sort at the server, which holds all models of a round in memory, 1.00 times FedAvg's time.
Settings that matter: ``trim``, above the share of sites that may be wrong. With K sites nothing is cut off below 1 / K:
0.25 cuts one at each end of 4 to 7 sites, and is the plain mean of 3.

Deviations: sites count the same, whatever their cases, so no setting is FedAvg's but ``trim`` 0 under ``weighting:
uniform``. The paper trims gradients; with a common w_t trimming models is the same. The default is not the paper's,
which depends on the share of wrong sites.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.collecting import CollectingAggregator
from fedlight.state import State, zip_map


class TrimmedMean(CollectingAggregator):
    """Averages what is left of every single parameter when the sites with extreme values are cut off.

    Args:
        trim: Share of the sites to cut off at each end, in [0, 0.5).
    """

    def __init__(self, trim: float = 0.25) -> None:
        self.trim = trim

    def validate(self) -> None:
        if not 0 <= self.trim < 0.5:
            raise ValueError(f"trim must be in [0, 0.5), got {self.trim}. For the median, use CoordinateMedian.")

    def combine(self, states: Sequence[State], weights: Sequence[float]) -> State:
        cut = math.floor(self.trim * len(states) + 1e-9)  # 0.29 * 100 is 28.999...
        return zip_map(lambda *values: trimmed_mean(values, cut), *states)


def trimmed_mean(values: Sequence[Tensor], cut: int) -> Tensor:
    """Returns the mean of every entry over several tensors, without the ``cut`` smallest and the ``cut`` largest."""
    ordered = torch.stack(list(values)).sort(0).values
    return ordered[cut : len(values) - cut].double().mean(0).to(ordered.dtype)
