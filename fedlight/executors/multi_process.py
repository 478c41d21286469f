"""Several sites at a time, each in a worker process that stays for the whole run."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fedlight.client import Progress
from fedlight.executors.crew import Crew
from fedlight.executors.desk import Desk, Job
from fedlight.executors.executor import STEPS, ClientFactory, Executor, Phase, Reply
from fedlight.executors.workplace import RESIDENT
from fedlight.preparation import ConfigError
from fedlight.update import Broadcast, Sent


class MultiProcess(Executor):
    """Trains several sites at a time, in worker processes that are started once and stay for the whole run.

    Equal threads give the bits of ``InProcess``, whatever the number of workers. What crosses lies in memory that both
    processes have, and images are in memory once for all. What workers print goes to ``workers.log``.

    Args:
        workers: Processes; by default one for every ``federation.threads`` processor cores, but not more than sites.
            Where there are GPUs, each works on one of them, in turn. Where ``federation.threads`` is left out, the
            workers share the cores.
        deadline: Seconds that a site may take for a phase, training or an evaluation, from when its worker begins with
            it, without those in which a worker starts. A site that has not answered by then is given up for this round
            ("late"), and its process is ended; those that wait for that worker are worked on by the one in its place.
        retries: How often a site is tried again whose process ended, before it is given up for this round ("lost").
        resident: Clients that stay in the memory of a worker; others are made anew from their state on disk.
    """

    concurrent = True

    def __init__(
        self, workers: int | None = None, deadline: float | None = None, retries: int = 1, resident: int = RESIDENT
    ) -> None:
        self.workers = workers
        self.deadline = deadline
        self.retries = retries
        self.resident = resident

    def open(
        self,
        sites: Sequence[str],
        make_client: ClientFactory,
        round: int,
        progress: Progress,
        counted: Mapping[str, int],
    ) -> dict[str, int]:
        """Starts the workers, which take some seconds to be ready; the first call waits for them.

        Raises:
            ConfigError: If an argument cannot work, or another process cannot have the task, the data or a plugin.
        """
        self._check()
        number, threads = share_cores(self.workers, make_client.local.threads, len(sites), _cores())
        make_client = replace(make_client, local=replace(make_client.local, threads=threads))
        self._homes: dict[str, int] = {}
        self._started: dict[str, Job] = {}
        samples = {site: make_client.data.num_samples(site) for site in sites}
        self.crew = Crew(make_client, self.resident, number)
        finished = {**dict.fromkeys(sites, round), **counted}
        self.desk = Desk(self.crew, make_client, finished, progress, self.deadline, self.retries)
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
        # what a site has in memory for secure aggregation is where it trained
        known = {site: self._homes[site] for site in messages} if phase in STEPS else {}
        homes = known or share_sites(list(messages), self._homes, len(self.crew))
        self._homes |= homes
        jobs = self.desk.put(phase, messages, homes)
        try:
            for job in jobs:
                yield job.site, self.desk.reply(job)
        finally:
            self.desk.give_up(jobs)

    def start(self, messages: Mapping[str, Broadcast]) -> None:
        """Lets sites begin, each at the worker with the fewest: where it worked last, if that is one."""
        load = Counter({worker: self.desk.load(worker) for worker in range(len(self.crew))})
        for site in messages:
            home = min(load, key=lambda worker: (load[worker], worker != self._homes.get(site), worker))
            self._homes[site] = home
            load[home] += 1
        self._started |= {job.site: job for job in self.desk.put("fit", messages, self._homes)}

    def answer(self, seconds: float | None = None) -> tuple[str, Reply] | None:
        """Waits for the next site that was started and is done.

        Raises:
            OSError: If the disk is full at a site.
            ConfigError: If a worker cannot start.
        """
        job = self.desk.first(self._started.values(), seconds)
        if job is None:
            return None
        del self._started[job.site]
        return job.site, self.desk.reply(job)

    def stop(self, sites: Sequence[str]) -> None:
        """Tells workers to end the work at sites; one that does not within some seconds is ended itself."""
        self.desk.stop([self._started.pop(site) for site in sites])

    def close(self) -> None:
        """Ends the workers and all that they have started."""
        self.desk.close(self._started.values())

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
