"""fedlight's aggregators as a strategy for anybody's ServerApp, with anybody's clients.

::

    from fedlight_algorithms import CoordinateMedian
    strategy = FedlightStrategy(CoordinateMedian())
    strategy.start(grid=grid, initial_arrays=ArrayRecord(model.state_dict()), num_rounds=3)

The clients are those of Flower's own ``FedAvg``: they reply with one ArrayRecord and with a MetricRecord that holds
"num-examples". What an aggregator of ours needs beyond that, its half at the clients or numbers that they measure, such
clients do not have; then it is refused. Whole federations of ours do without a strategy: see ``fedlight deploy``.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from fedlight import state
from fedlight.plugins import Aggregator
from fedlight.state import RunningMean, State
from fedlight.update import RoundContext, Update

log = logging.getLogger("fedlight")


class FedlightStrategy(FedAvg):
    """Makes the next model with an aggregator of fedlight's.

    Floating-point arrays go to the aggregator; of integers, which are counters, the largest is kept. A reply with other
    names, shapes or dtypes, with values that are not finite or with no example is left out and named in the log.
    Replies are taken in the order of their nodes' numbers, so the result does not depend on who was first.

    Args:
        aggregator: How to aggregate; it is copied.
        rounds: How many rounds are planned, for aggregators whose steps depend on it.
        seed: Seed of the run, for aggregators that draw.
        fraction_train: Share of the nodes that train in a round.
        fraction_evaluate: Share of the nodes that evaluate after a round.
        min_train_nodes: Nodes that train at least.
        min_evaluate_nodes: Nodes that evaluate at least.
        min_available_nodes: Nodes that must be connected.
        train_metrics_aggr_fn: As for Flower's ``FedAvg``.
        evaluate_metrics_aggr_fn: As for Flower's ``FedAvg``.

    Raises:
        ValueError: If the aggregator needs clients of fedlight's.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        rounds: int = 1,
        seed: int = 0,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        train_metrics_aggr_fn: Callable[[list[RecordDict], str], MetricRecord] | None = None,
        evaluate_metrics_aggr_fn: Callable[[list[RecordDict], str], MetricRecord] | None = None,
    ) -> None:
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=min_train_nodes,
            min_evaluate_nodes=min_evaluate_nodes,
            min_available_nodes=min_available_nodes,
            train_metrics_aggr_fn=train_metrics_aggr_fn,
            evaluate_metrics_aggr_fn=evaluate_metrics_aggr_fn,
        )
        self.aggregator = copy.deepcopy(aggregator)
        self.rounds, self.seed = rounds, seed
        self._check()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sends the model to the nodes of a round, and remembers it."""
        self._model = _tensors(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Makes the next model of the replies that can be used; the model stays as it is where none can."""
        usable = self._usable(server_round, replies)
        if not usable:
            return None, None
        updates = [update for _, update in usable]
        params, rest = _split(self._model)
        self.aggregator.begin(self._context(server_round, updates), params)
        counters = RunningMean()
        for update in updates:
            self.aggregator.add(update)
            counters.add(update.buffers, update.num_samples)
        made = {**self.aggregator.finish(), **(counters.result() if rest else {})}
        contents = [message.content for message, _ in usable]
        metrics = self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        return ArrayRecord({name: made[name] for name in self._model}), metrics

    # --- inside ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        name = type(self.aggregator).__name__
        self.aggregator.instance_id = name
        self.aggregator.validate()
        if self.aggregator.client_half() is not None or self.aggregator.measures:
            raise ValueError(
                f"{name} needs clients of fedlight's, which a strategy does not have. Use fedlight deploy, or another."
            )

    def _usable(self, round: int, replies: Iterable[Message]) -> list[tuple[Message, Update]]:
        """Returns the replies that can be used with what they say, in the order of their nodes."""
        result = []
        for message in sorted(replies, key=lambda message: message.metadata.src_node_id):
            site = str(message.metadata.src_node_id)
            try:
                result.append((message, self._update(site, round, message)))
            except ValueError as error:
                log.warning("node %s, round %d: left out: %s", site, round, error)
        return result

    def _update(self, site: str, round: int, message: Message) -> Update:
        """Reads a reply.

        Raises:
            ValueError: If it cannot be used.
        """
        if message.has_error():
            raise ValueError(message.error.reason)
        if len(message.content.array_records) != 1 or len(message.content.metric_records) != 1:
            raise ValueError("it must hold one ArrayRecord and one MetricRecord")
        (arrays,), (metrics,) = message.content.array_records.values(), message.content.metric_records.values()
        count = metrics.get(self.weighted_by_key)
        if not isinstance(count, int | float) or not 0 < count < float("inf"):
            raise ValueError(f"{self.weighted_by_key} must be a number above 0, got {count}")
        tensors = _tensors(arrays)
        if wrong := state.fault(tensors, self._model):
            raise ValueError(wrong)
        params, rest = _split({name: tensors[name] for name in self._model})
        return Update(site, round, int(count), params, rest)

    def _context(self, round: int, updates: list[Update]) -> RoundContext:
        counts = {update.site: update.num_samples for update in updates}
        return RoundContext(
            round=round,
            rounds=max(self.rounds, round),
            seed=self.seed,
            sites=tuple(counts),
            cohort=tuple(counts),
            num_samples=counts,
            weights={site: float(count) for site, count in counts.items()},
        )


def _tensors(arrays: ArrayRecord) -> State:
    read: Mapping[str, Any] = arrays.to_torch_state_dict()
    return {
        name: value.detach() if isinstance(value, Tensor) else torch.as_tensor(value) for name, value in read.items()
    }


def _split(tensors: State) -> tuple[State, State]:
    """Parts what an aggregator may touch from counters."""
    params = {name: value for name, value in tensors.items() if value.is_floating_point()}
    return params, {name: value for name, value in tensors.items() if name not in params}
