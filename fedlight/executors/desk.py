"""Who works on what: hands pieces of work to the worker processes of a run and keeps what comes back.

A site is at one worker at a time. What sites are sent lies in memory that all workers read; it is written anew for
other messages as soon as every worker has read what it was handed.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from fedlight.client import Progress
from fedlight.executors.crew import Crew
from fedlight.executors.executor import ClientFactory, Phase, Reply
from fedlight.executors.shared_memory import Place
from fedlight.executors.worker import Advance, Answer, Begun, Broken, Halt, Order, Ready, Stop
from fedlight.preparation import ConfigError
from fedlight.update import Sent, SiteFailure

_INTERVAL = 0.2
"""Seconds between two looks at whether workers are still there."""

_START = 600
"""Seconds after which a worker that is not ready is started anew."""

_GRACE = 10
"""Seconds after which a worker is ended that was told to stop and does not: it stops between two batches."""


@dataclass(eq=False)
class Packet:
    """Messages that are written together, so that a worker reads those of several sites once.

    Attributes:
        messages: Every one once.
        number: By which workers know whether they have read it.
    """

    messages: Sequence[Sent]
    number: int


@dataclass(eq=False)
class Timer:
    """What is left of a deadline, in seconds; None for no deadline."""

    left: float | None
    looked: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Begins, or goes on, to count now."""
        self.looked = time.monotonic()

    def over(self, runs: bool) -> bool:
        """Goes on to now, if it runs, and says whether nothing is left."""
        before, self.looked = self.looked, time.monotonic()
        if self.left is not None and runs:
            self.left -= self.looked - before
        return self.left is not None and runs and self.left <= 0


@dataclass(eq=False)
class Job:
    """A piece of work: one phase at one site.

    Attributes:
        worker: Who does it.
        timer: Its deadline, which counts while somebody is at it.
        before: The last round that the site had finished when the job began.
        after: The same when it was done; it counts when the answer is taken.
        stopped: When it was told to end, by the monotonic clock.
    """

    phase: Phase
    site: str
    message: Sent
    packet: Packet
    worker: int
    timer: Timer
    before: int = 0
    after: int = 0
    stopped: float | None = None


class Desk:
    """All work of a run.

    Args:
        crew: The workers.
        make_client: What they make clients with.
        finished: The last round that every site has finished.
        progress: Called when a site says how far it is.
        deadline: Seconds that a job may take once a worker has begun with it.
        retries: How often a job is tried again whose process ended.
    """

    def __init__(
        self,
        crew: Crew,
        make_client: ClientFactory,
        finished: Mapping[str, int],
        progress: Progress,
        deadline: float | None,
        retries: int,
    ) -> None:
        self._crew, self._make_client, self._progress = crew, make_client, progress
        self._finished = dict(finished)
        self._deadline, self._retries = deadline, retries
        self._waiting: list[Job] = []
        self._at: dict[int, Job] = {}  # by worker
        self._replies: dict[Job, Reply] = {}  # in the order in which they came
        self._lost: Counter[Job] = Counter()
        self._packets = 0
        self._written: tuple[Packet, Place] | None = None
        self._reading: set[int] = set()  # workers that have yet to read what is written

    def load(self, worker: int) -> int:
        """Returns how many jobs a worker has, those that end included."""
        return sum(job.worker == worker for job in [*self._waiting, *self._at.values()])

    def put(self, phase: Phase, messages: Mapping[str, Sent], homes: Mapping[str, int]) -> list[Job]:
        """Adds a job for every site, in the order of the messages.

        Args:
            phase: What to do.
            messages: What every site is sent.
            homes: The worker of every site.
        """
        self._packets += 1
        packet = Packet(list({id(message): message for message in messages.values()}.values()), self._packets)
        jobs = [
            Job(phase, site, message, packet, homes[site], Timer(self._deadline)) for site, message in messages.items()
        ]
        self._waiting += jobs
        self._look(0)
        return jobs

    def reply(self, job: Job) -> Reply:
        """Returns the answer to a job, or why there is none; all workers are kept busy in the meantime."""
        self._look(0)
        while job not in self._replies:
            self._look(_INTERVAL)
        self._finished[job.site] = max(self._finished[job.site], job.after)
        return self._replies.pop(job)

    def first(self, jobs: Iterable[Job], seconds: float | None) -> Job | None:
        """Waits some seconds, None for as long as it takes, for the first of some jobs that is done."""
        end, wanted = time.monotonic() + (math.inf if seconds is None else seconds), set(jobs)
        self._look(0)
        while True:
            done = next((job for job in self._replies if job in wanted), None)
            left = end - time.monotonic()
            if done is not None or left <= 0:
                return done
            self._look(min(_INTERVAL, left))

    def give_up(self, jobs: Iterable[Job]) -> None:
        """Drops jobs, because nobody wants to know any more; the workers that are at one are ended."""
        for job in jobs:
            self._replies.pop(job, None)
            self._take_back(job)

    def stop(self, jobs: Iterable[Job]) -> None:
        """Drops jobs; workers that are at one are told so, and what sites have kept of it does not count."""
        for job in jobs:
            if self._at.get(job.worker) is job:
                job.stopped = time.monotonic()
                self._crew[job.worker].send(Stop())
            elif job in self._waiting:
                self._waiting.remove(job)
            elif self._replies.pop(job, None) is not None:
                self._undo(job)

    def close(self, jobs: Iterable[Job]) -> None:
        """Ends the workers; what sites have kept of some jobs, whose answers nobody has taken, does not count."""
        self._crew.close()
        stopped = [job for job in self._at.values() if job.stopped is not None]
        for job in [*jobs, *stopped]:
            if job not in self._waiting:
                self._undo(job)

    # --- inside ----------------------------------------------------------------------------------------------------

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
        self._mind_deadlines()

    def _hand_out(self, worker: int) -> None:
        if worker in self._at or not self._crew[worker].ready:
            return
        busy = {job.site for job in self._at.values()}
        job = next((job for job in self._waiting if job.worker == worker and job.site not in busy), None)
        place = None if job is None else self._place(job.packet)
        if job is None or place is None:
            return
        self._waiting.remove(job)
        job.timer.start()
        self._at[worker], job.before = job, self._finished[job.site]
        self._reading.add(worker)
        index = next(index for index, message in enumerate(job.packet.messages) if message is job.message)
        self._crew[worker].send(Order(job.phase, job.site, place, job.packet.number, index, job.before))

    def _place(self, packet: Packet) -> Place | None:
        """Returns where messages lie; None as long as others may not be overwritten."""
        if self._written is None or self._written[0] is not packet:
            if self._reading:
                return None
            self._written = packet, self._crew.broadcasts.write(packet.messages)
        return self._written[1]

    def _take(self, worker: int, message: object) -> None:
        if isinstance(message, Advance):
            self._progress(*message.values)
        elif isinstance(message, Begun):
            self._reading.discard(worker)
        elif isinstance(message, Answer):
            self._answered(self._at.pop(worker), message)
            self._hand_out(worker)
        elif isinstance(message, Ready):
            self._crew[worker].ready = True
        elif isinstance(message, Halt):
            raise OSError(message.number, message.text, message.file)
        elif isinstance(message, Broken):
            raise ConfigError(f"a worker process must have what this one has, but cannot: {message.reason}.")

    def _answered(self, job: Job, answer: Answer) -> None:
        if job.stopped is not None:
            self._undo(job)
            return
        job.after = answer.finished
        self._replies[job] = self._crew[job.worker].replies.read(answer.place)

    def _replace(self, worker: int, how: str) -> None:
        """Puts a new worker in the place of one that ended; its job is tried again, or given up."""
        self._end(worker)
        job = self._at.pop(worker, None)
        if job is None:
            return
        self._lost[job] += 1
        if job.stopped is not None:
            self._undo(job)
        elif self._lost[job] > self._retries:
            self._fail(job, "lost", f"its process {how}")
        else:
            self._note(f"{job.site}, round {job.message.round}, {job.phase}\nits process {how}; it is tried again\n")
            self._waiting.insert(0, job)

    def _end(self, worker: int) -> None:
        self._crew.end(worker)
        self._reading.discard(worker)

    def _mind_deadlines(self) -> None:
        """Gives up what has not been answered in time; time in which a job waits or a worker starts does not count."""
        for job in [job for job in self._at.values() if job.stopped is not None]:
            if time.monotonic() - (job.stopped or 0.0) > _GRACE:
                self._take_back(job)
                self._undo(job)
        ready = all(self._crew[worker].ready for worker in range(len(self._crew)))
        for job in [job for job in self._at.values() if job.stopped is None]:
            if job.timer.over(ready):
                self._take_back(job)
                self._fail(job, "late", f"no answer within {self._deadline:g} s")

    def _take_back(self, job: Job) -> None:
        """Takes a job away from whoever has it."""
        if self._at.get(job.worker) is job:
            del self._at[job.worker]
            self._end(job.worker)
        elif job in self._waiting:
            self._waiting.remove(job)

    def _fail(self, job: Job, kind: str, reason: str) -> None:
        """Gives a site up for this round."""
        self._undo(job)
        self._replies[job] = SiteFailure(job.site, job.message.round, job.phase, kind, reason)

    def _undo(self, job: Job) -> None:
        """Forgets what a site may have kept of a job that does not count."""
        if job.phase in ("fit", "masked"):
            self._make_client.store(job.site).rewind(job.before)

    def _note(self, text: str) -> None:
        with (self._make_client.folder.parent / "errors.log").open("a") as file:
            file.write(text)
