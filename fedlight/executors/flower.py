"""Sites at the nodes of a Flower federation: one message a site and phase, answered by the site's own process.

A node takes no message while it is at another. By the real clock, where a site may have to end its work, it answers
after a while that it is still at work, and is told to go on or to end it.

The rounds are the federation's own. Flower carries the messages: it authenticates the nodes, encrypts what travels and
says who is there. A node of the name of a site answers for that site, and nobody else can.

What the server remembers of the sites lies beside the run's other files in ``sites.json``: under which key the sites
keep this run apart from others, how many cases they have, and which rounds of each were accepted. A site is told with
every message from which of its rounds it has to go on, so that a server that was killed, or an answer that came too
late, leaves no trace in what follows.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlight.agreement import agreement
from fedlight.checkpoint import RunFolder
from fedlight.client import Progress
from fedlight.data.elsewhere import DataElsewhere
from fedlight.data.federated import FederatedDataModule
from fedlight.executors.executor import STEPS, ClientFactory, Executor, Phase, Reply
from fedlight.parcel import ParcelError, block_of, unwrap, wrap
from fedlight.preparation import ConfigError
from fedlight.serialization import write_bytes
from fedlight.state import buffers_of, parameters_of
from fedlight.update import KINDS, Broadcast, Evaluation, Exchange, Sent, SiteFailure, Update
from fedlight.wire import Expected, WireError, decode, encode

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Message
    from flwr.serverapp import Grid

log = logging.getLogger("fedlight")

_KEPT = 2  # rounds that are remembered of every site, as many as both sides keep
_POLL = 0.2  # seconds between looks for answers
_LOOK = 5.0  # seconds between looks for nodes that have gone

_grid: Grid | None = None


@contextmanager
def driven(grid: Grid) -> Iterator[None]:
    """Lets the executor of a federation that runs in this block send its messages through a grid."""
    global _grid
    _grid = grid
    try:
        yield
    finally:
        _grid = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a node says of itself before the first round.

    Attributes:
        site: Its name.
        num_samples: Its training cases; 0 at an institution that takes no part.
        problem: Why it cannot take part, in one sentence; empty if it can.
        versions: Of what it computes with.
    """

    site: str
    num_samples: int
    problem: str
    versions: str


class Flower(Executor):
    """Trains at the nodes of a Flower federation, all sites at once; runs inside a ServerApp.

    Args:
        sites: The sites that train; each is a node that was registered under this name.
        deadline: Seconds that a site may work in one phase; after that it ends its work and the round goes on.
        transport: Seconds beyond the deadline for messages to travel.
        wait: Seconds to wait until all sites are connected and ready, before the first round.
        largest: Megabytes that an answer may have.
        lease: Seconds that a site works by the real clock until it asks whether it shall go on.
    """

    remote = True
    concurrent = True

    def __init__(
        self,
        sites: list[str],
        deadline: float = 3600.0,
        transport: float = 120.0,
        wait: float = 600.0,
        largest: int = 2048,
        lease: float = 30.0,
    ) -> None:
        self.sites = sites
        self.deadline, self.transport, self.wait = deadline, transport, wait
        self.largest, self.lease = largest, lease

    def sees(self, data: FederatedDataModule) -> DataElsewhere:
        """Returns names only: the data is at the sites.

        Raises:
            ConfigError: If an argument cannot work.
        """
        if not self.lease > 0:
            raise ConfigError(f"executor: lease must be above 0 seconds, got {self.lease:g}. Leave it out for 30.")
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise ConfigError(f"executor: sites must name every site once, got {self.sites}. Name those that train.")
        overlap = sorted(set(self.sites) & set(data.held_out_sites))
        if overlap:
            raise ConfigError(f"executor: {', '.join(overlap)} cannot both train and be held out. Name it once.")
        return DataElsewhere(data, self.sites)

    def open(
        self,
        sites: Sequence[str],
        make_client: ClientFactory,
        round: int,
        progress: Progress,
        counted: Mapping[str, int],
    ) -> dict[str, int]:
        """Waits until all sites are connected and agree on versions, plugins and settings.

        A site that answered before a server was restarted may be missing: then its rounds fail until it is back.

        Raises:
            ConfigError: If one is missing, or cannot take part.
        """
        self._grid = _driven()
        run_folder = make_client.folder.parent
        self._agreed = json.dumps(agreement(RunFolder(run_folder).config(), make_client.plugins))
        self._scoring, self._round = make_client.selected, round
        self._keeps_model = make_client.local.compression.keeps_model
        self._secure = make_client.local.secure is not None
        params, buffers = parameters_of(make_client.module), buffers_of(make_client.module)
        self._expected = Expected(params, buffers, self.largest << 20)
        self._own_statistics = make_client.local.buffers == "local" and bool(buffers)
        self._record = _Record.read(run_folder / "sites.json")
        if not self._scoring:
            self._record.go_back(round, counted)
        self._posted = _Waiting(self._grid)
        self._working: dict[str, _Work] = {}
        self._next: dict[str, Broadcast] = {}  # of sites that have yet to end
        self._done: list[tuple[str, int, Reply]] = []  # site, round, answer
        greetings = self.meet(sites)
        problems = [f"{site}: {each.problem}" for site, each in greetings.items() if each.problem]
        if problems:
            raise ConfigError(*problems)
        self._record.num_samples |= {site: greeting.num_samples for site, greeting in greetings.items()}
        missing = [site for site in sites if site not in self._record.num_samples]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)} did not answer within {self.wait:g} s. "
                "Start its node under this name, or wait longer (executor.wait)."
            )
        for site in sites:
            if site not in greetings:
                log.warning("%s is not connected; the run goes on without it until it is", site)
        self._record.write()
        return {site: self._record.num_samples[site] for site in sites}

    def meet(
        self, sites: Sequence[str], agreed: str | None = None, heed: Callable[[Greeting], None] = lambda greeting: None
    ) -> dict[str, Greeting]:
        """Asks nodes who they are, as soon as each is connected, until all have answered or the wait is over.

        Args:
            sites: Names of the nodes.
            agreed: What they must agree with; that of the run if left out.
            heed: Told of each greeting as it comes.

        Returns:
            The greetings of those that answered, in the order of ``sites``.
        """
        self._grid = _driven()
        agreed = self._agreed if agreed is None else agreed
        waiting = _Waiting(self._grid)
        heard: dict[str, Greeting] = {}
        end = time.monotonic() + self.wait
        asked: set[str] = set()
        while len(heard) < len(sites):
            for site, node in _nodes(self._grid).items():
                if site in sites and site not in asked:
                    hello = wrap({"phase": "hello", "site": site, "seconds": self.wait, "agreement": agreed})
                    waiting.push({site: (node, hello)}, "query", self.wait, 0)
                    asked.add(site)
            for site, message in waiting.pull().items():
                heard[site] = _greeting(site, message)
                heed(heard[site])
            if time.monotonic() >= end:
                break
            time.sleep(_POLL)
        return {site: heard[site] for site in sites if site in heard}

    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        """Runs one phase at the given sites at once and yields their replies in the order of ``messages``."""
        waiting, nodes = _Waiting(self._grid), _nodes(self._grid)
        blocks: dict[int, ArrayRecord] = {}  # one for all sites that are sent the same
        ends: dict[str, float] = {}
        heard: dict[str, Message] = {}

        def send() -> None:
            """Sends to all that are free; the others end first what they were started with."""
            for site, broadcast in messages.items():
                if site in nodes and site not in ends and site not in self._working:
                    if id(broadcast) not in blocks:
                        blocks[id(broadcast)] = block_of(encode(broadcast))
                    content = wrap(self._fields(phase, site), blocks[id(broadcast)])
                    kind = "train" if phase == "fit" else "evaluate"
                    waiting.push({site: (nodes[site], content)}, kind, self._longest, broadcast.round)
                    ends[site] = time.monotonic() + self._longest

        for site, broadcast in messages.items():
            gone = None if site in nodes else "no node of this name is connected"
            while gone is None and site not in heard:
                self._pull()
                send()
                late = time.monotonic() >= ends.get(site, math.inf)  # what has come by now is taken
                heard |= waiting.pull()
                if site not in heard:
                    gone = (waiting.gone(site) if site in ends else None) or (_late(self.deadline) if late else None)
                    time.sleep(_POLL if gone is None else 0)
            reply = self._reply(phase, site, broadcast, heard.pop(site, None), gone)
            if self._counts(phase, reply):
                self._record.accept(site, broadcast.round)
            yield site, reply

    def start(self, messages: Mapping[str, Broadcast]) -> None:
        """Lets sites begin; one that was told to stop begins when it has answered."""
        for site, broadcast in messages.items():
            if site in self._working:
                self._next[site] = broadcast
            else:
                self._begin(site, broadcast)

    def answer(self, seconds: float | None = None) -> tuple[str, Reply] | None:
        """Waits for the next site that was started and is done."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        self._pull()
        while not self._done and time.monotonic() < end and self._working:
            time.sleep(min(_POLL, max(0.0, end - time.monotonic())))
            self._pull()
        if not self._done:
            return None
        site, round, reply = self._done.pop(0)
        if self._counts("fit", reply):
            self._record.accept(site, round)
        return site, reply

    def stop(self, sites: Sequence[str]) -> None:
        """Has sites told to end their work when they ask whether they shall go on; their answers are thrown away."""
        self._done = [done for done in self._done if done[0] not in sites]
        for site in sites:
            self._next.pop(site, None)
            if site in self._working:
                work = self._working[site]
                work.stopped, work.end = True, min(work.end, time.monotonic() + self.lease)

    def select(self, round: int) -> None:
        """Has every site keep its state of a round apart; it is told with the next message."""
        self._record.selected = [*self._record.selected, round][-_KEPT:]
        self._record.write()

    def score_unseen(
        self, institution: str, broadcast: Broadcast, private: bool
    ) -> Sequence[tuple[str, Evaluation]] | SiteFailure:
        """Scores the shared model at the institution's own node."""
        round = broadcast.context.round
        if private:
            reason = "sites keep parameters of their own, which do not leave them, so there is no model for others"
            return SiteFailure(institution, round, "test", "refused", reason)
        if self._own_statistics:
            log.warning("mean and ensemble of the sites' models are not scored: running statistics do not leave them")
        ((_, reply),) = self.call("unseen", {institution: broadcast})  # type: ignore[arg-type]  # a phase of nodes alone
        return [("global", each) for each in reply] if isinstance(reply, tuple) else _failed(reply)

    def close(self) -> None:
        """Does nothing: what is warm at the nodes ends by itself."""

    # --- by the real clock -------------------------------------------------------------------------------------------

    def _begin(self, site: str, broadcast: Broadcast) -> None:
        node = _nodes(self._grid).get(site)
        if node is None:
            self._drop(site, broadcast, "lost", "no node of this name is connected")
            return
        self._working[site] = _Work(broadcast, node, time.monotonic() + self.deadline)
        self._post(site, "fit", block_of(encode(broadcast)))

    def _post(self, site: str, phase: str, block: ArrayRecord | None = None) -> None:
        """Tells a site to begin ("fit"), to go on ("wait") or to end ("stop"); it answers within the lease."""
        work = self._working[site]
        left = max(1.0, work.end - time.monotonic())
        content = wrap({**self._fields(phase, site), "seconds": left, "lease": self.lease}, block)
        self._posted.push({site: (work.node, content)}, "train", self._longest, work.broadcast.round)

    def _pull(self) -> None:
        """Takes what has come from sites that were started, and looks whether the others are still there."""
        for site, message in self._posted.pull().items():
            self._heard(site, message)
        for site, work in list(self._working.items()):
            overdue = time.monotonic() >= work.end + self.transport + self.lease
            gone = self._posted.gone(site) or (_late(self.deadline) if overdue else None)
            if gone is not None:
                self._ended(site, None, gone)

    def _heard(self, site: str, message: Message) -> None:
        if not _at_work(message):
            self._ended(site, message, None)
            return
        work = self._working[site]
        if not work.stopped and time.monotonic() >= work.end:
            work.stopped = True
            self._drop(site, work.broadcast, "late", _late(self.deadline))
        self._post(site, "stop" if work.stopped else "wait")

    def _ended(self, site: str, message: Message | None, gone: str | None) -> None:
        """Takes the answer of a site, which is free now."""
        work = self._working.pop(site)
        if not work.stopped:
            reply = self._reply("fit", site, work.broadcast, message, gone)
            self._done.append((site, work.broadcast.round, reply))
        if site in self._next:
            self._begin(site, self._next.pop(site))

    def _drop(self, site: str, broadcast: Broadcast, kind: str, reason: str) -> None:
        round = broadcast.round
        self._done.append((site, round, SiteFailure(site, round, "fit", kind, reason)))

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _longest(self) -> float:
        return self.deadline + self.transport

    def _counts(self, phase: str, reply: Reply) -> bool:
        """Says whether the site has kept its state of this round, from which it goes on."""
        if isinstance(reply, Exchange):
            return phase == "masked"
        if isinstance(reply, tuple):
            return phase == "evaluate" and self._keeps_model
        return isinstance(reply, Update) and not self._secure

    def _fields(self, phase: str, site: str) -> dict[str, str | int | float | bool]:
        return {
            "phase": phase,
            "site": site,
            "run": self._record.run,
            "base": self._record.base(site, self._round),
            "selected": max((each for each in self._record.selected if each <= self._round), default=0),
            "scoring": self._scoring,
            "seconds": self.deadline,
            "largest": self.largest,
            "agreement": self._agreed,
        }

    def _reply(self, phase: str, site: str, broadcast: Sent, message: Message | None, gone: str | None) -> Reply:
        self._round = max(self._round, broadcast.round)  # from now on answers of this round count
        failure = SiteFailure(site, broadcast.round, phase, "lost", gone or "no answer")
        if message is None:
            return replace(failure, kind="late") if gone == _late(self.deadline) else failure
        if message.has_error():
            return replace(failure, reason=_one_line(f"Flower says: {message.error.reason}"))
        try:
            reply = decode(unwrap(message.content)[1], self._expected)
        except (WireError, ParcelError) as error:
            return replace(failure, kind="refused", reason=f"answer refused: {error}")
        return _checked(failure, reply)


def _at_work(message: Message) -> bool:
    """Says whether an answer says no more than that the site is at work."""
    try:
        return not message.has_error() and unwrap(message.content)[0].get("at_work") is True
    except ParcelError:
        return False


def _failed(reply: Update | Exchange | SiteFailure) -> SiteFailure:
    assert isinstance(reply, SiteFailure)  # an update is an answer to "fit" alone
    return reply


def _checked(failure: SiteFailure, reply: object) -> Reply:
    """Returns an answer that speaks for its own site and is of the kind that was asked for, or else a failure."""
    site, phase = failure.site, failure.phase
    if isinstance(reply, SiteFailure):
        kind = reply.kind if reply.kind in KINDS else "raised"
        return replace(failure, kind=kind, reason=_one_line(reply.reason))
    if phase == "fit" and isinstance(reply, Update):
        return reply  # whose it is, the server looks at
    if phase in STEPS and isinstance(reply, Exchange):
        return reply  # the same
    if phase not in ("fit", *STEPS) and isinstance(reply, tuple) and all(each.site == site for each in reply):
        return reply
    wanted = "an update" if phase == "fit" else "a step" if phase in STEPS else f"evaluations of {site}"
    return replace(failure, kind="refused", reason=f"answer refused: expected {wanted}, got something else")


def _late(deadline: float) -> str:
    return f"no answer within {deadline:g} s"


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:500]


def _greeting(site: str, message: Message) -> Greeting:
    if message.has_error():
        return Greeting(site, 0, _one_line(f"its node cannot answer: {message.error.reason}"), "")
    try:
        fields, _ = unwrap(message.content)
        count, problem = int(fields["num_samples"]), _one_line(str(fields["problem"]))
        return Greeting(site, count, problem, _one_line(str(fields["versions"])))
    except (ParcelError, KeyError, ValueError) as error:
        return Greeting(site, 0, f"its node does not answer as fedlight does ({_one_line(str(error))})", "")


def _driven() -> Grid:
    if _grid is None:
        raise ConfigError(
            "executor Flower runs inside a Flower federation. Make one with fedlight deploy init, start it, and type "
            "fedlight deploy run DIR in place of fedlight fit."
        )
    return _grid


def _nodes(grid: Grid) -> dict[str, int]:
    """Returns the nodes that are connected, by the names that they were registered under."""
    return {node.name: node.node_id for node in grid.get_nodes() if node.name}


@dataclass
class _Work:
    """A site at work since ``start``.

    Attributes:
        broadcast: What it was sent.
        node: Where it works.
        end: When it is late, or will have been told to stop, by the monotonic clock.
        stopped: Whether nobody wants to know any more.
    """

    broadcast: Broadcast
    node: int
    end: float
    stopped: bool = False


class _Waiting:
    """Messages that are on their way, and the answers to them."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._sites: dict[str, str] = {}  # by the id of the message
        self._nodes: dict[str, int] = {}
        self._looked = time.monotonic()
        self._online: set[int] | None = None

    def push(self, contents: Mapping[str, tuple[int, Any]], kind: str, seconds: float, round: int) -> None:
        """Sends one message to each of several sites: node and content by site."""
        from flwr.app import Message

        for site, (node, content) in contents.items():
            message = Message(content, node, kind, ttl=seconds, group_id=str(round))
            (sent,) = self._grid.push_messages([message])
            if sent is not None:
                self._sites[sent] = site
                self._nodes[site] = node

    def pull(self) -> dict[str, Message]:
        """Returns the answers that have come since."""
        came = {}
        for message in self._grid.pull_messages(list(self._sites)) if self._sites else ():
            site = self._sites.pop(message.metadata.reply_to_message_id, None)
            if site is not None:
                came[site] = message
        return came

    def gone(self, site: str) -> str | None:
        """Says so if a site is not there any more; looks every few seconds."""
        if site not in self._sites.values():
            return "the message could not be sent"
        if time.monotonic() - self._looked >= _LOOK:
            self._online, self._looked = set(self._grid.get_node_ids()), time.monotonic()
        if self._online is not None and self._nodes[site] not in self._online:
            return "the connection to its node ended"
        return None


@dataclass
class _Record:
    """What the server remembers of the sites of a run.

    Attributes:
        path: The file.
        run: What the sites keep this run under.
        num_samples: Training cases of every site.
        accepted: The last rounds of every site whose update arrived, or whose scores where sites keep the model that
            they were sent.
        selected: The last rounds that were selected.
    """

    path: Path
    run: str
    num_samples: dict[str, int]
    accepted: dict[str, list[int]]
    selected: list[int]

    @classmethod
    def read(cls, path: Path) -> _Record:
        if not path.is_file():
            return cls(path, secrets.token_hex(16), {}, {}, [])
        try:
            return cls(path, **json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is damaged. Bring it back, or start a new run.") from error

    def write(self) -> None:
        plain = {name: getattr(self, name) for name in ("run", "num_samples", "accepted", "selected")}
        write_bytes(self.path, json.dumps(plain, indent=1).encode())

    def accept(self, site: str, round: int) -> None:
        before = [each for each in self.accepted.get(site, []) if each < round]
        self.accepted[site] = [*before, round][-_KEPT:]
        self.write()

    def go_back(self, round: int, counted: Mapping[str, int]) -> None:
        """Forgets what came after a round, or after the last one of a site that counts: it is trained again."""
        self.accepted = {
            site: [each for each in rounds if each <= counted.get(site, round)]
            for site, rounds in self.accepted.items()
        }
        self.selected = [each for each in self.selected if each <= round]

    def base(self, site: str, round: int) -> int:
        """Returns the last round up to one that was accepted, 0 if there is none."""
        return max((each for each in self.accepted.get(site, []) if each <= round), default=0)
