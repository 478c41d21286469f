"""Control variates: every site has one, and the server keeps their mean over all sites."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedlight.plugins.aggregator import Aggregator
from fedlight.plugins.client_plugin import ClientPlugin, Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.state import RunningMean, zip_map
from fedlight.update import RoundContext


class ControlVariates(ClientPlugin):
    """Sites share how their control changed, c_k+ - c_k; every site is sent c, which starts at 0 with all of them.

    c moves by the sum of P_k (c_k+ - c_k) over the sites of a round, P_k = n_k / sum_j n_j over all sites (1 / N under
    uniform weighting), so that it stays the weighted mean of all sites' controls whoever takes part.
    """

    needs_shared = True
    linear = True

    def check_others(self, aggregator: Aggregator, plugins: Sequence[ClientPlugin]) -> None:
        if others := [type(other).__name__ for other in plugins if isinstance(other, ControlVariates)]:
            names = ", ".join([type(self).__name__, *others])
            raise ValueError(f"plugins must have at most one with control variates, got {names}. Keep one of them.")

    def discloses(self) -> Disclosure | None:
        if not self.active():
            return None
        return Disclosure("how the site's mean gradient changed, as large as the model", "none")

    def active(self) -> bool:
        """Says whether sites share anything at all."""
        return True

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._weights = context.weights
        self._everybody = sum(context.weights[site] for site in context.sites)
        self._changes = RunningMean()

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._changes.add(shared, self._weights[site])

    def finish(self) -> Statistics:
        if not self._changes.total:
            return self._previous
        share = self._changes.total / self._everybody
        change = zip_map(lambda mean: share * mean, self._changes.result())
        return zip_map(torch.add, change, self._previous) if self._previous else change
