"""What is averaged over the sites: parameters by an aggregator, statistics by the server's half of a client plugin."""

from __future__ import annotations

from abc import abstractmethod

from fedlight.plugins.aggregator import Aggregator
from fedlight.plugins.client_plugin import ClientPlugin, Statistics
from fedlight.state import RunningMean, State
from fedlight.update import RoundContext, Update


class AveragingAggregator(Aggregator):
    """Averages the sites' parameters as they come; a member says how to go on from there."""

    def begin(self, context: RoundContext, params: State) -> None:
        self._weights = context.weights
        self._start = params
        self._mean = RunningMean()

    def add(self, update: Update) -> None:
        self._mean.add(update.params, self._weights[update.site])

    def finish(self) -> State:
        return self.step(self._start, self._mean.result())

    @abstractmethod
    def step(self, start: State, mean: State) -> State:
        """Returns the next global parameters; called once a complete round, so server state may change here.

        Args:
            start: What the sites started from, w_t.
            mean: The weighted mean of what they ended with.
        """


class AveragingPlugin(ClientPlugin):
    """Sends every site the weighted mean of what the sites of the last round shared."""

    linear = True

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._weights = context.weights
        self._mean = RunningMean()

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._mean.add(shared, self._weights[site])

    def finish(self) -> Statistics:
        return self._mean.result() if self._mean.total else self._previous
