"""Local: every site trains alone and nothing is averaged (reference arm, no paper).

The arm without a federation: what a site reaches on its own images is what a federation has to beat.

    w_{t+1}^k = what site k made of w_t^k        for every site k

It is an aggregator under which every parameter is private, so the rest of a run (rounds, validation, resume) is that of
any other method. It gives one model a site, all from the same initial weights, and no setting turns it into FedAvg.

Shared: nothing, not even the model: 1972364 bytes less each way. Privacy: scores and losses leave a site, nothing else.
Secure aggregation: yes, there is nothing to add up. Cost: 1.00 times FedAvg's time. Settings that matter: there is
nothing to set.

Deviations: there is no paper to deviate from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.state import State
from fedlight.update import RoundContext, Update


class Local(Aggregator):
    """Leaves every site with a model of its own."""

    linear = True

    def begin(self, context: RoundContext, params: State) -> None:
        self._params = params

    def add(self, update: Update) -> None:
        """Takes nothing: an update holds no parameters."""

    def finish(self) -> State:
        return dict(self._params)

    def client_half(self) -> ClientPlugin:
        return AllPrivate()


class AllPrivate(ClientPlugin):
    """Keeps every parameter at its site."""

    def private(self, params: Mapping[str, Tensor]) -> Collection[str]:
        return params
