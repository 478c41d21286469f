"""The server: the global model, the aggregator and the server sides of the plugins."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fedlight import state
from fedlight.buffers import BufferAverage
from fedlight.channel import Compression, ServerEnd
from fedlight.plugins import Aggregator, ClientPlugin, Harmonisation
from fedlight.plugins.harmonisation import Harmonisers
from fedlight.state import State
from fedlight.stopwatch import section
from fedlight.tracking.tracker import SiteRound
from fedlight.update import Broadcast, RoundContext, Sent, Shared, SiteFailure, Update


class RoundFailedError(RuntimeError):
    """A round in which too few sites gave a usable update; the server is as it was before the round.

    Attributes:
        failures: What became of the other sites.
    """

    def __init__(self, message: str, failures: Sequence[SiteFailure] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)

    @property
    def spent(self) -> bool:
        """Whether it is privacy budgets that ended, and nothing went wrong."""
        return bool(self.failures) and all(failure.kind == "spent" for failure in self.failures)


@dataclass
class Traffic:
    """Bytes of what crossed in a round, by site and part, as it was written.

    Attributes:
        down: Of what the sites were sent.
        up: Of what they sent.
        evaluate: Of what they were sent to score the new model, all together.
    """

    down: dict[str, dict[str, int]] = field(default_factory=dict)
    up: dict[str, dict[str, int]] = field(default_factory=dict)
    evaluate: int = 0

    def sent(self, site: str, message: Sent) -> None:
        """Notes what a site is sent in training, which may be more than one message."""
        self.down[site] = _added(self.down.get(site, {}), message.bytes_by_part)

    def received(self, site: str, parts: Mapping[str, int]) -> None:
        """Notes what a site sends, bytes by part, which may be more than one message."""
        self.up[site] = _added(self.up.get(site, {}), parts)

    def sent_to_score(self, site: str, message: Broadcast) -> None:
        """Notes what a site is sent to score."""
        self.evaluate += message.num_bytes

    def of(self, site: str, broadcast: Broadcast, update: Update) -> dict[str, Any]:
        """Returns the numbers of ``SiteRound``; of a site that was not noted, those of the messages."""
        down = self.down.get(site, broadcast.bytes_by_part)
        up = self.up.get(site, update.bytes_by_part)
        parts = {f"bytes_down/{name}": size for name, size in down.items()}
        parts |= {f"bytes_up/{name}": size for name, size in up.items()}
        return {"bytes_down": sum(down.values()), "bytes_up": sum(up.values()), "parts": parts}


class Server:
    """Turns broadcasts into updates' worth of progress; knows no data and trains nothing.

    ``params`` is the global model that sites go on from; ``deployed`` is the one to evaluate and keep: the same, unless
    a plugin makes another of it (an average over rounds).

    Args:
        aggregator: The server's own instance.
        plugins: The server's own instances of the client plugins.
        params: The initial trainable parameters.
        buffers: The initial running statistics.
        compression: What updates and broadcasts are written with.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        plugins: Sequence[ClientPlugin],
        params: State,
        buffers: State,
        compression: Compression | None = None,
    ) -> None:
        self.aggregator = aggregator
        self.plugins = tuple(plugins)
        self.params = params
        self.buffers = buffers
        self.deployed = params
        self._deploys_what_sites_have = True
        self.shared: Shared = {}
        self.round = 0
        self.private = frozenset(name for plugin in plugins for name in plugin.private(params))
        personal = any(type(plugin).personal is not ClientPlugin.personal for plugin in plugins)
        self.sites_differ = bool(self.private) or personal  # whether a site has a model that only it has
        self.channel = ServerEnd(compression or Compression(), self.public)

    @property
    def public(self) -> State:
        """The parameters that travel: all that no plugin keeps at the sites."""
        return self._public(self.params)

    @property
    def harmonisers(self) -> Harmonisers:
        """The plugins that harmonise images, with what the sites are sent for it."""
        harmonising = [plugin for plugin in self.plugins if isinstance(plugin, Harmonisation)]
        return [(plugin, self.shared.get(plugin.instance_id, {})) for plugin in harmonising]

    def broadcast(self, context: RoundContext, deployed: bool = False) -> Broadcast:
        """Returns what every site is sent: the model to train from, or the one to evaluate.

        How other sites score is not a site's business.
        """
        params = self._public(self.deployed if deployed else self.params)
        return Broadcast(replace(context, evaluations={}), params, self.buffers, self.shared)

    def received(self, context: RoundContext) -> Broadcast:
        """Returns the broadcast of a round as sites have it: with the model that codecs have left them."""
        broadcast = self.broadcast(context)
        return replace(broadcast, params=self.channel.held(broadcast.params))

    def messages(self, context: RoundContext, sites: Iterable[str], phase: str) -> dict[str, Broadcast]:
        """Returns what every site is sent in a phase: the model of the round, or the one to be looked at."""
        broadcast = self.broadcast(context, deployed=phase != "fit")
        if phase == "fit" or (phase == "evaluate" and self._deploys_what_sites_have):
            return self.channel.messages(sites, broadcast)
        return dict.fromkeys(sites, replace(broadcast, model="other"))

    def opened(self, site: str, reply: object, reference: Broadcast) -> object:
        """Returns a reply with its parameters, or the failure that it is if they cannot be read.

        Args:
            site: Who answers.
            reply: What it says.
            reference: With the model that what it changed is added to.
        """
        self.channel.answered(site, well=not isinstance(reply, SiteFailure))
        if not isinstance(reply, Update):
            return reply
        try:
            return self.channel.read(reply, reference.params, reference.context.seed)
        except ValueError as error:
            return SiteFailure(site, reference.context.round, "fit", "refused", f"update refused: {error}")

    def collect(
        self,
        context: RoundContext,
        replies: Iterable[tuple[str, object]],
        min_sites: int,
        traffic: Traffic | None = None,
    ) -> tuple[list[SiteRound], list[SiteFailure]]:
        """Takes the replies of a round one at a time and moves the global model.

        Args:
            context: The round.
            replies: Site and reply, in site order; an unusable update is refused by name and left out.
            min_sites: How many usable updates a round needs.
            traffic: What crossed, where that is not what is in the messages.

        Returns:
            What the accepted sites did, and the failures.

        Raises:
            RoundFailedError: If too few updates are usable.
        """
        accepted: list[SiteRound] = []
        failures: list[SiteFailure] = []
        traffic = traffic or Traffic()
        sent = self.broadcast(context)
        buffers = self._begin(context)
        for site, reply in replies:
            if not isinstance(reply, Update):
                failures.append(_failure(context, site, reply))
            elif (refused := self._refusal(context, site, reply)) is not None:
                failures.append(refused)
            else:
                with _named(context), section("aggregation"):
                    self._add(context, reply, buffers)
                accepted.append(SiteRound(site, reply.num_samples, reply.metrics, **traffic.of(site, sent, reply)))
        if len(accepted) < min_sites:
            raise RoundFailedError(_too_few(context, len(accepted), min_sites, failures), failures)
        with _named(context), section("aggregation"):
            self._finish(context, buffers)
        return accepted, failures

    def advance(self, context: RoundContext, update: Update, weights: Mapping[str, float]) -> None:
        """Moves the global model by one update that stands for all sites of the round.

        Args:
            context: The round, with the weight of the update's site.
            update: The mean of what they changed.
            weights: What that site counts for in the statistics of plugins, by instance id, where it is something else.

        Raises:
            RoundFailedError: If the update cannot be used.
        """
        if wrong := self._fault(context, update.site, update):
            raise RoundFailedError(f"round {context.round}: the sum of the sites cannot be used: {wrong}")
        with _named(context), section("aggregation"):
            own = {name: {**context.weights, update.site: weight} for name, weight in weights.items()}
            buffers = self._begin(context, own)
            self._add(context, update, buffers)
            self._finish(context, buffers)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next round depends on: tensors and plain values."""
        return {
            "round": self.round,
            "params": self.params,
            "buffers": self.buffers,
            "shared": {name: dict(part) for name, part in self.shared.items()},
            "aggregator": self.aggregator.state_dict(),
            "plugins": {plugin.instance_id: plugin.state_dict() for plugin in self.plugins},
            "channel": self.channel.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        self.round, self.shared = saved["round"], saved["shared"]
        self.params, self.buffers = saved["params"], saved["buffers"]
        self.deployed = self.params  # until the next round is over
        self.aggregator.load_state_dict(saved["aggregator"])
        for plugin in self.plugins:
            plugin.load_state_dict(saved["plugins"][plugin.instance_id])
        self.channel.load_state_dict(saved.get("channel", {}))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _public(self, params: State) -> State:
        return {name: value for name, value in params.items() if name not in self.private}

    def _begin(self, context: RoundContext, own: Mapping[str, Mapping[str, float]] | None = None) -> BufferAverage:
        """Begins a round; ``own`` has the weights of plugins for which sites count for something else, by id."""
        self.aggregator.begin(context, self.public)
        for plugin in self.plugins:
            weights = (own or {}).get(plugin.instance_id, context.weights)
            plugin.begin(replace(context, weights=weights), self.shared.get(plugin.instance_id, {}))
        return BufferAverage()

    def _add(self, context: RoundContext, update: Update, buffers: BufferAverage) -> None:
        self.aggregator.add(update)
        buffers.add(update.buffers, context.weights[update.site])
        for plugin in self.plugins:
            if plugin.instance_id in update.shared:
                plugin.add(update.site, update.num_samples, update.shared[plugin.instance_id])

    def _finish(self, context: RoundContext, buffers: BufferAverage) -> None:
        public = self.aggregator.finish()
        if wrong := state.fault(public, self.public):
            name = type(self.aggregator).__name__
            raise RoundFailedError(f"round {context.round}: {name} returned an unusable model: {wrong}")
        self.params = {**self.params, **public}
        self.buffers = {**self.buffers, **buffers.result()}
        finished = {plugin.instance_id: dict(plugin.finish()) for plugin in self.plugins}
        self.shared = {name: part for name, part in finished.items() if part}
        deployed = sent = self.channel.advance(public, context.seed)
        for plugin in self.plugins:
            deployed = plugin.deploy(deployed)
        self._deploys_what_sites_have = deployed is sent
        self.deployed = {**self.params, **deployed}
        self.round = context.round

    def _refusal(self, context: RoundContext, site: str, update: Update) -> SiteFailure | None:
        """Says why an update cannot be used, if so; it must never reach an average."""
        reason = self._fault(context, site, update)
        if reason is None:
            return None
        loss = update.metrics.get("train_loss")
        seen = "" if loss is None else f" (training loss {loss:.4g})"
        return SiteFailure(site, context.round, "fit", "refused", f"update refused: {reason}{seen}")

    def _fault(self, context: RoundContext, site: str, update: Update) -> str | None:
        shared: Mapping[str, Mapping[str, object]] = update.shared  # a plugin may have put in anything
        if (update.site, update.round) != (site, context.round):
            return f"it is from {update.site}, round {update.round}"
        if update.num_samples <= 0:
            return f"it counts {update.num_samples} training cases"
        if wrong := state.fault(update.params, self.public):
            return wrong
        if update.buffers and (wrong := state.fault(update.buffers, self.buffers)):
            return wrong
        for name, part in shared.items():
            for key, value in part.items():
                if not isinstance(value, torch.Tensor):
                    return f"{name} shares {key}, which is no tensor but {type(value).__name__}"
                if not state.finite(value):
                    return f"{name} shares {key} with values that are not finite"
        return None


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


@contextmanager
def _named(context: RoundContext) -> Iterator[None]:
    """Says in which round the server's half of a plugin failed; the trace stays with the error."""
    try:
        yield
    except RoundFailedError:
        raise
    except (Exception, SystemExit) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        raise RoundFailedError(
            f"round {context.round}: the server's half of a plugin failed: {type(error).__name__}: {error} ({place})"
        ) from error


def _failure(context: RoundContext, site: str, reply: object) -> SiteFailure:
    if isinstance(reply, SiteFailure):
        return reply
    return SiteFailure(site, context.round, "fit", "refused", f"expected an update, got {type(reply).__name__}")


def _too_few(context: RoundContext, usable: int, needed: int, failures: Sequence[SiteFailure]) -> str:
    sites_of: dict[str, list[str]] = {}
    for failure in failures:
        sites_of.setdefault(failure.reason, []).append(failure.site)
    reasons = "; ".join(f"{', '.join(sites)}: {reason}" for reason, sites in sites_of.items())
    updates = f"{usable} usable update{'s' * (usable != 1)}"
    return (
        f"round {context.round} has {updates} but needs {needed} (min_sites); {reasons}. "
        "Go on with --ckpt_path last when the sites can work again, or start a new run with a lower min_sites."
    )
