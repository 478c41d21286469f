"""The first rounds of a run, played with noise at throw-away sites: the messages are the run's own, the numbers not.

Nothing is described here from memory: clients train, codecs write, the server answers, as ``fit`` would let them. Sites
that see equally many images are alike, so one of them is played and stands for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from torch import Tensor

from fedlight.client import Client
from fedlight.cohort import panel
from fedlight.data.federated import FederatedDataModule, Stage
from fedlight.disclosure.specimen import BATCH, Specimens
from fedlight.run import Run
from fedlight.server import Traffic
from fedlight.state import State
from fedlight.update import Broadcast, Evaluation, RoundContext, Update

if TYPE_CHECKING:
    from fedlight.federation import Federation

ROUNDS = 3
"""After so many rounds what crosses stays what it is: a reference that is measured in the first is known and sent."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One tensor that crosses.

    Attributes:
        part: "parameters", "buffers" or "shared/<plugin>".
    """

    part: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Played:
    """What crosses between the server and a site in a round.

    Attributes:
        up: Tensors of the update, as they are before codecs write them.
        down: Tensors of the broadcast, alike.
        bytes_up: Bytes of the update as it is written, by part.
        bytes_down: Bytes of the broadcast, alike.
        bytes_evaluate: Bytes of the broadcast that is only scored.
        metrics: Names of the numbers in the update, beside ``num_samples``.
    """

    up: tuple[Leaf, ...]
    down: tuple[Leaf, ...]
    bytes_up: Mapping[str, int]
    bytes_down: Mapping[str, int]
    bytes_evaluate: int
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What crosses in the rounds of a run.

    Attributes:
        rounds: By site, the first rounds.
        period: Of how many rounds the last of these repeat from then on.
        evaluation: What a site answers in a round in which it scores the model.
        detailed: What it answers to ``validate`` and ``test``.
        private: Parameters that stay at the sites.
        kept: Names of running statistics that stay there.
    """

    rounds: Mapping[str, tuple[Played, ...]]
    period: int
    evaluation: Evaluation
    detailed: Evaluation
    private: State
    kept: tuple[str, ...]

    def at(self, site: str, number: int) -> Played:
        """Returns what crosses at a site in a round, from 1."""
        played = len(self.rounds[site])
        if number > played:
            number = played - self.period + 1 + (number - played - 1) % self.period
        return self.rounds[site][number - 1]


def rehearse(federation: Federation, run: Run, data: FederatedDataModule) -> Rehearsal:
    """Plays the first rounds of a run that was checked and not started; nothing is written.

    Args:
        federation: The federation.
        run: Its run, which is used up: the server's state is that of noise afterwards.
        data: The sites' data, of which no image is looked at.
    """
    cases = {site: _images(federation, run, data, site) for site in run.sites}
    scoring = panel(run.sites, federation.evaluate_sites, federation.seed)
    alike = {site: (count, len(data.institutions(site)), site in scoring) for site, count in cases.items()}
    stands_for = {site: next(s for s in run.sites if alike[s] == alike[site]) for site in run.sites}
    run.num_samples = cases
    # what goes into a sum is shown in place of its masked vector, and nobody's budget is charged for noise
    local = replace(run.make_client.local, secure=None)
    with TemporaryDirectory() as folder:
        make_client = replace(run.make_client, data=Specimens(data, cases), local=local, folder=Path(folder))
        clients = {site: make_client(site, 0) for site in dict.fromkeys(stands_for.values())}
        return _play(federation, run, clients, stands_for, scoring)


def _play(
    federation: Federation,
    run: Run,
    clients: Mapping[str, Client],
    stands_for: Mapping[str, str],
    scoring: Collection[str],
) -> Rehearsal:
    """Plays as many rounds as it takes until they repeat."""
    rounds: dict[str, list[Played]] = {site: [] for site in run.sites}
    private = run.server.private
    differences = federation.local.compression.keeps_model  # then a message depends on whether the last was scored
    period = federation.evaluate_every if differences else 1
    for number in range(1, min(ROUNDS - 1 + period, federation.rounds) + 1):
        context = federation._context(run, number, run.sites)
        scored = scoring if differences and number % federation.evaluate_every == 0 else ()
        for site, played in _round(run, clients, stands_for, context, scored).items():
            rounds[site].append(played)
    first = clients[stands_for[run.sites[0]]]
    message = replace(run.server.broadcast(context, deployed=True), model="other")
    evaluation, detailed = (first.evaluate(message, stage, detailed=much)[0] for stage, much in _LOOKS)
    sent = {leaf.name for played in rounds[run.sites[0]] for leaf in played.up if leaf.part == "buffers"}
    return Rehearsal(
        {site: tuple(played) for site, played in rounds.items()},
        period,
        evaluation,
        detailed,
        {name: value for name, value in run.server.params.items() if name in private},
        tuple(name for name in run.server.buffers if name not in sent),
    )


_LOOKS: tuple[tuple[Stage, bool], ...] = (("val", False), ("test", True))


def _images(federation: Federation, run: Run, data: FederatedDataModule, site: str) -> int:
    """Returns how many different images are worth playing: as many as a site sees, but no more than plugins count."""
    needed = max([BATCH, *(getattr(plugin, "min_images", 1) for plugin in run.server.plugins)])
    if federation.executor.remote:  # only the site itself knows how many it has
        return needed
    seen = data.num_samples(site)
    steps = federation.local.steps_of(data.institutions(site))
    if steps is not None and seen > 1:
        batch = len(next(iter(data.train_loader(site, seed=0, steps=1)))["case"])
        seen = min(seen, steps * batch)
    return min(seen, needed)


def _round(
    run: Run,
    clients: Mapping[str, Client],
    stands_for: Mapping[str, str],
    context: RoundContext,
    scoring: Collection[str],
) -> dict[str, Played]:
    """Plays one round with all sites and returns what crossed."""
    server = run.server
    messages = server.messages(context, run.sites, "fit")
    plain = server.broadcast(context)
    updates = {site: client.fit(messages[site]) for site, client in clients.items()}
    replies = {site: replace(updates[stands_for[site]], site=site) for site in run.sites}
    opened = {site: server.opened(site, reply, plain) for site, reply in replies.items()}
    server.collect(context, opened.items(), 1, Traffic())
    scored = server.messages(context, run.sites, "evaluate")
    for site in scoring:
        answer = clients[site].evaluate(scored[site]) if site in clients else ()
        server.opened(site, answer, scored[site])
    return {
        site: Played(
            up=_leaves(server.public if update.payload else update.params, update),
            down=_leaves({} if messages[site].model == "kept" else plain.params, messages[site]),
            bytes_up=update.bytes_by_part,
            bytes_down=messages[site].bytes_by_part,
            bytes_evaluate=scored[site].num_bytes,
            metrics=tuple(update.metrics),
        )
        for site, update in replies.items()
    }


def _leaves(params: Mapping[str, Tensor], message: Update | Broadcast) -> tuple[Leaf, ...]:
    parts = {"parameters": params, "buffers": message.buffers}
    parts |= {f"shared/{plugin}": tensors for plugin, tensors in message.shared.items()}
    return tuple(_leaf(part, name, value) for part, tensors in parts.items() for name, value in tensors.items())


def _leaf(part: str, name: str, value: Tensor) -> Leaf:
    dtype = str(value.dtype).removeprefix("torch.")
    return Leaf(part, name, tuple(value.shape), dtype, value.numel() * value.element_size())
