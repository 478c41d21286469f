"""Several sites at a time, each in a worker process that stays for the whole run."""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from fedlight.client import Progress
from fedlight.executors.crew import Crew
from fedlight.executors.executor import STEPS, ClientFactory, Executor, Phase, Reply
from fedlight.executors.worker import Advance, Answer, Broken, Halt, Order, Ready
from fedlight.executors.workplace import RESIDENT
from fedlight.preparation import ConfigError
from fedlight.update import Sent, SiteFailure

_INTERVAL = 0.2
"""Seconds between two looks at whether workers are still there."""

_START = 600
"""Seconds after which a worker that is not ready is started anew."""


class MultiProcess(Executor):
    """Trains several sites at a time, in worker processes that are started once and stay for the whole run.

    Equal threads give the bits of ``InProcess``, whatever the number of workers. What crosses lies in memory that both
    processes have, and images are in memory once for all. What workers print goes to ``workers.log``.

    Args:
        workers: Processes; by default one for every ``federation.threads`` processor cores, but not more than sites.
            Where there are GPUs, each works on one of them, in turn. Where ``federation.threads`` is left out, the
            workers share the cores.
        deadline: Seconds that a phase, training or an evaluation, may take at all its sites together, without those in
            which a worker starts. Sites that have not answered by then are given up for this round ("late"), and the
            processes that worked on them are ended.
        retries: How often a site is tried again whose process ended, before it is given up for this round ("lost").
        resident: Clients that stay in the memory of a worker; others are made anew from their state on disk.
    """

    def __init__(
        self, workers: int | None = None, deadline: float | None = None, retries: int = 1, resident: int = RESIDENT
    ) -> None:
        self.workers = workers
        self.deadline = deadline
        self.retries = retries
        self.resident = resident

    def open(self, sites: Sequence[str], make_client: ClientFactory, round: int, progress: Progress) -> dict[str, int]:
        """Starts the workers, which take some seconds to be ready; the first call waits for them.

        Raises:
            ConfigError: If an argument cannot work, or another process cannot have the task, the data or a plugin.
        """
        self._check()
        number, threads = share_cores(self.workers, make_client.local.threads, len(sites), _cores())
        self.make_client = replace(make_client, local=replace(make_client.local, threads=threads))
        self.progress = progress
        self.finished = dict.fromkeys(sites, round)
        self.calls = 0
        self._homes: dict[str, int] = {}
        samples = {site: make_client.data.num_samples(site) for site in sites}
        self.crew = Crew(self.make_client, self.resident, number)
        try:
            for worker in range(number):
                self.crew[worker]
        except BaseException:
            self.close()
            raise
        return samples

    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        """Runs one phase; a site stays with its worker as long as that has no more sites than others.

        Raises:
            OSError: If the disk is full at a site.
            ConfigError: If a worker cannot start.
        """
        self.calls += 1
        # what a site has in memory for secure aggregation is where it trained
        known = {site: self._homes[site] for site in messages} if phase in STEPS else {}
        homes = known or share_sites(list(messages), self._homes, len(self.crew))
        self._homes |= homes
        call = _Call(self, phase, messages, homes)
        try:
            for site in messages:
                yield site, call.reply(site)
        finally:
            call.give_up()

    def close(self) -> None:
        """Ends the workers and all that they have started."""
        self.crew.close()

    def _check(self) -> None:
        for name, least in (("workers", 1), ("retries", 0), ("resident", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"executor.{name} must be at least {least}, got {value}. Leave it out.")
        if self.deadline is not None and not self.deadline > 0:
            raise ConfigError(
                f"executor.deadline must be above 0 seconds, got {self.deadline:g}. Leave it out for none."
            )


def share_cores(workers: int | None, threads: int | None, sites: int, cores: int) -> tuple[int, int]:
    """Returns how many workers there are and how many threads each has; what is given stays.

    >>> share_cores(None, 1, 4, 16), share_cores(None, 8, 4, 16), share_cores(2, None, 4, 16)
    ((4, 1), (2, 8), (2, 8))
    """
    number = max(1, min(sites, cores // (threads or 1))) if workers is None else workers
    return number, threads or max(1, cores // number)


def share_sites(sites: Sequence[str], homes: Mapping[str, int], workers: int) -> dict[str, int]:
    """Returns the worker of every site: where it worked last, unless that has its share; then the one with the fewest.

    >>> share_sites(["a", "b", "c"], {}, 2), share_sites(["a", "c"], {"a": 0, "b": 1, "c": 0}, 2)
    ({'a': 0, 'b': 1, 'c': 0}, {'a': 0, 'c': 1})
    """
    load: Counter[int] = Counter()
    shared: dict[str, int] = {}
    for site in sites:
        home = homes.get(site)
        if home is None or load[home] >= math.ceil(len(sites) / workers):
            home = min(range(workers), key=lambda worker: load[worker])
        shared[site] = home
        load[home] += 1
    return shared


def _cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Call:
    """One phase at several sites: which worker is at which site, and what has come back.

    Args:
        executor: Whose call it is.
        phase: What to do.
        messages: What every site is sent.
        homes: The worker of every site.
    """

    def __init__(
        self, executor: MultiProcess, phase: Phase, messages: Mapping[str, Sent], homes: Mapping[str, int]
    ) -> None:
        self._executor, self._crew, self._phase, self._messages = executor, executor.crew, phase, messages
        self._waiting = [deque(site for site in messages if homes[site] == worker) for worker in range(len(self._crew))]
        self._at: dict[int, str] = {}  # worker -> the site that it is at
        self._replies: dict[str, Reply] = {}
        self._lost: Counter[str] = Counter()
        self._left, self._looked = executor.deadline, time.monotonic()
        broadcasts = {id(message): message for message in messages.values()}
        self._index = {key: index for index, key in enumerate(broadcasts)}
        self._place = self._crew.broadcasts.write(list(broadcasts.values()))

    def reply(self, site: str) -> Reply:
        """Returns what a site answers, or why it does not; all workers are kept busy in the meantime."""
        self._look(0)
        while site not in self._replies:
            self._look(_INTERVAL)
        return self._replies.pop(site)

    def give_up(self) -> None:
        """Ends the workers that are still at a site, because nobody wants to know any more."""
        for worker in list(self._at):
            del self._at[worker]
            self._crew.end(worker)

    def _look(self, seconds: float) -> None:
        """Hands out work, then takes what comes within some seconds."""
        workers = range(len(self._crew))
        for worker in workers:
            self._hand_out(worker)
        wait([self._crew[worker].connection for worker in workers], seconds)
        for worker in workers:
            how = self._crew[worker].ended  # before its messages are read: none can come after that
            for message in self._crew[worker].received():
                self._take(worker, message)
            if how is not None or self._crew[worker].starting > _START:
                self._replace(worker, how or f"was not ready after {_START} s")
        self._mind_deadline()

    def _hand_out(self, worker: int) -> None:
        if worker in self._at or not self._waiting[worker] or not self._crew[worker].ready:
            return
        site = self._at[worker] = self._waiting[worker].popleft()
        index = self._index[id(self._messages[site])]
        executor = self._executor
        self._crew[worker].send(Order(self._phase, site, self._place, executor.calls, index, executor.finished[site]))

    def _take(self, worker: int, message: object) -> None:
        if isinstance(message, Advance):
            self._executor.progress(*message.values)
        elif isinstance(message, Answer):
            site = self._at.pop(worker)
            self._executor.finished[site] = message.finished
            self._replies[site] = self._crew[worker].replies.read(message.place)
            self._hand_out(worker)
        elif isinstance(message, Ready):
            self._crew[worker].ready = True
        elif isinstance(message, Halt):
            raise OSError(message.number, message.text, message.file)
        elif isinstance(message, Broken):
            raise ConfigError(f"a worker process must have what this one has, but cannot: {message.reason}.")

    def _replace(self, worker: int, how: str) -> None:
        """Puts a new worker in the place of one that ended; its site is tried again, or given up."""
        self._crew.end(worker)
        site = self._at.pop(worker, None)
        if site is None:
            return
        self._lost[site] += 1
        if self._lost[site] > self._executor.retries:
            self._fail(site, "lost", f"its process {how}")
        else:
            self._note(f"{site}, round {self._round(site)}, {self._phase}\nits process {how}; it is tried again\n")
            self._waiting[worker].appendleft(site)

    def _mind_deadline(self) -> None:
        """Gives up all sites that have not answered in time; time in which a worker starts does not count."""
        before, self._looked = self._looked, time.monotonic()
        if self._left is None or not all(self._crew[worker].ready for worker in range(len(self._crew))):
            return
        self._left -= self._looked - before
        if self._left <= 0:
            self._be_late()

    def _be_late(self) -> None:
        late = [*self._at.values(), *(site for queue in self._waiting for site in queue)]
        self.give_up()
        for queue in self._waiting:
            queue.clear()
        for site in late:
            self._fail(site, "late", f"no answer within {self._executor.deadline:g} s")

    def _fail(self, site: str, kind: str, reason: str) -> None:
        """Gives a site up for this round; what it may have kept of it does not count."""
        executor = self._executor
        if self._phase in ("fit", "masked"):
            executor.make_client.store(site).rewind(executor.finished[site])
        self._replies[site] = SiteFailure(site, self._round(site), self._phase, kind, reason)

    def _round(self, site: str) -> int:
        return self._messages[site].round

    def _note(self, text: str) -> None:
        with (self._executor.make_client.folder.parent / "errors.log").open("a") as file:
            file.write(text)
