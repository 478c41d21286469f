"""The clients of one process: made when they are called, their failures turned into answers."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from fedlight.channel import OutdatedError
from fedlight.client import Client, Progress
from fedlight.data.federated import Stage
from fedlight.executors.executor import ClientFactory, Phase, Reply
from fedlight.privacy.example_level import BudgetSpentError
from fedlight.privacy.fixed_point import SecureSumError
from fedlight.secure_aggregation import Session
from fedlight.stopwatch import section
from fedlight.update import Broadcast, Exchange, Sent, SiteFailure

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoppedError(RuntimeError):
    """A site was told to end its work; raised where it reports how far it is."""


EXPECTED: Mapping[type[BaseException], tuple[str, str]] = {
    OutdatedError: ("outdated", ""),
    SecureSumError: ("refused", "refused by the site itself: "),
    BudgetSpentError: ("spent", ""),
    StoppedError: ("unneeded", ""),
}
"""What a site says by raising it: the kind of its failure, and how the reason begins. No trace is kept of it."""

RESIDENT = 8
"""How many clients of a process stay in memory unless an executor is told otherwise."""


class Workplace:
    """Where the sites of one process work, one after the other.

    A site that raised is made anew, from its state of the last round that it finished, when it is called next; so is
    one that had to make room for others. What a site keeps is on disk, so its numbers do not depend on that.

    Args:
        make_client: Makes clients.
        finished: The last round that every site has finished; 0 where it has not taken part.
        progress: Called a few times a second while a site trains.
        resident: How many clients stay in memory, those that worked last.
    """

    def __init__(
        self,
        make_client: ClientFactory,
        finished: Mapping[str, int],
        progress: Progress | None = None,
        resident: int = RESIDENT,
    ) -> None:
        self._make_client, self._progress, self._resident = make_client, progress, resident
        self._finished = dict(finished)
        self._clients: dict[str, Client] = {}  # the one that worked last comes last
        self._sessions: dict[str, tuple[Session, Mapping[str, Any]]] = {}  # with what the site will keep of the round

    def work(self, phase: Phase, site: str, message: Sent, finished: int | None = None) -> Reply:
        """Runs one phase at one site.

        What it raises becomes a failure, its trace goes to errors.log; a full disk concerns all and is raised.

        Args:
            phase: What to do.
            site: Where.
            message: What the site is sent.
            finished: The last round that the site has finished, where it may have worked elsewhere in between.
        """
        if finished is not None and finished != self._finished.get(site):
            self._forget(site)
            self._finished[site] = finished
        try:
            with section("sites: all else"):
                return (
                    self._step(phase, site, message)
                    if isinstance(message, Exchange)
                    else self._work(phase, site, message)
                )
        except (Exception, SystemExit) as error:  # a plugin that ends the program is a fault of its site alone
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            self._leave(site)
            self._forget(site)
            kind, reason = EXPECTED.get(type(error)) or self._log(phase, site, message, error)
            return SiteFailure(site, message.round, phase, kind, " ".join(f"{reason}{error}".split()))

    def _log(self, phase: Phase, site: str, message: Sent, error: BaseException) -> tuple[str, str]:
        """Keeps the trace of an error that nobody expected; returns what ``EXPECTED`` has for others."""
        with (self._make_client.folder.parent / "errors.log").open("a") as file:
            file.write(f"{site}, round {message.round}, {phase}\n{traceback.format_exc()}\n")
        return "raised", f"{type(error).__name__}: " if str(error) else type(error).__name__

    def finished(self, site: str) -> int:
        """The last round that a site has finished, whose state its next round starts from."""
        return self._finished[site]

    def _work(self, phase: Phase, site: str, broadcast: Broadcast) -> Reply:
        self._leave(site)
        client = self._client(site)
        if phase != "fit":
            stage: Stage = "test" if phase == "test" else "val"
            evaluations = client.evaluate(broadcast, stage, detailed=phase != "evaluate")
            if phase == "evaluate" and client.local.compression.keeps_model:
                self._keep(site, broadcast.round, client.state_dict())
            return evaluations
        update = client.fit(broadcast)
        if client.session is not None:  # the round counts when the masked update was handed over
            self._sessions[site] = client.session, client.state_dict()
            return update
        if not client.sound:
            # the server refuses the update by name; the site goes on from its last round, else it were spoilt for good
            self._forget(site)
            return update
        self._keep(site, broadcast.round, client.state_dict())
        return update

    def _step(self, step: Phase, site: str, message: Exchange) -> Exchange:
        """Answers a step of secure aggregation."""
        if site not in self._sessions:
            raise SecureSumError(f"it takes no part in the sum of round {message.round}, or does not any more")
        session, kept = self._sessions[site]
        with section("secure aggregation"):
            reply = session.answer(step, message)
        if step == "masked":
            self._keep(site, message.round, kept)
            self._sessions[site] = session, {}
        return reply

    def _leave(self, site: str) -> None:
        """Ends a site's part in secure aggregation; if that came to nothing, the site forgets the round."""
        session, _ = self._sessions.pop(site, (None, {}))
        if session is not None and not session.sent:
            self._forget(site)

    def _keep(self, site: str, round: int, state: Mapping[str, Any]) -> None:
        with section("what sites keep"):
            self._make_client.store(site).save(round, state)
        self._finished[site] = round

    def _client(self, site: str) -> Client:
        """Returns the client of a site, made if it is not resident; the one that was idle longest makes room."""
        client = self._clients.pop(site, None)
        while client is None and len(self._clients) >= self._resident:
            self._forget(next(iter(self._clients)))
        client = client or self._make_client(site, self._finished[site], self._progress)
        self._clients[site] = client
        return client

    def _forget(self, site: str) -> None:
        client = self._clients.pop(site, None)
        if client is not None:
            client.release()


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Sets torch's threads, None for its own choice, and puts back what was there."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
