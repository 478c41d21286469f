"""A worker process: waits for orders of the process that started it, works on them and answers.

It is started by ``WorkerProcess`` and ends when its parent does. What it prints goes to a file.
"""

from __future__ import annotations

import pickle
import runpy
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from fedlight.executors.executor import ClientFactory, Phase, Reply
from fedlight.executors.shared_memory import Place, SharedMemory
from fedlight.executors.workplace import StoppedError, Workplace
from fedlight.plugins.discovery import discover
from fedlight.processes import end_group, end_with_parent
from fedlight.update import Sent, SiteFailure


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker.

    Attributes:
        factory: Where what makes clients lies in the memory that is written once.
        resident: How many clients stay in memory.
        program: The script that defines classes of ``__main__``, if there are some to be made.
    """

    factory: Place
    resident: int
    program: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """A piece of work.

    Attributes:
        broadcasts: Where the broadcasts of this call lie.
        call: Number of the messages that lie there; those of another number have to be read first.
        index: Which of the broadcasts the site is sent.
        finished: The last round that the site has finished.
    """

    phase: Phase
    site: str
    broadcasts: Place
    call: int
    index: int
    finished: int


class Ready:
    """The worker can take orders."""


class Stop:
    """To a worker: ends the work that it is at; of no effect if that is done."""


class Begun:
    """The worker has read what the site is sent, so that memory may be written again."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The worker cannot start."""

    reason: str


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a site is; the arguments of ``Progress``."""

    values: tuple[str, int, int, int, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply lies in the worker's memory; ``finished`` is the last round that the site has finished."""

    place: Place
    finished: int


@dataclass(frozen=True, slots=True)
class Halt:
    """An error that concerns everybody: number, text and file of an ``OSError``."""

    number: int | None
    text: str | None
    file: str | None


class Worker:
    """The sites of this process.

    Args:
        connection: To the process that started it.
        broadcasts: Memory that the other process writes.
        replies: Memory that this one writes.
    """

    def __init__(self, connection: Connection, broadcasts: SharedMemory, replies: SharedMemory) -> None:
        self._connection, self._broadcasts, self._replies = connection, broadcasts, replies
        self._call = -1
        self._known: list[Any] = []

    def serve(self, factory: SharedMemory) -> None:
        """Takes orders until the connection ends."""
        start: Start = self._connection.recv()
        try:
            self._workplace = _workplace(start, factory, self._report)
        except Exception as error:
            self._connection.send(Broken(" ".join(f"{type(error).__name__}: {error}".split())))
            return
        self._connection.send(Ready())
        while True:
            order = self._connection.recv()
            if not isinstance(order, Stop):
                self._connection.send(self._work(order))

    def _work(self, order: Order) -> Answer | Halt:
        if order.call != self._call:
            self._known, self._call = self._broadcasts.read(order.broadcasts), order.call
        self._connection.send(Begun())
        message: Sent = self._known[order.index]
        try:
            reply = self._workplace.work(order.phase, order.site, message, order.finished)
            return Answer(self._place(order, message, reply), self._workplace.finished(order.site))
        except OSError as error:
            return Halt(error.errno, error.strerror, error.filename)

    def _place(self, order: Order, message: Sent, reply: Reply) -> Place:
        try:
            return self._replies.write(reply)
        except (TypeError, AttributeError, pickle.PicklingError) as error:  # a plugin may share anything
            reason = f"its answer cannot be sent: {error}"
            return self._replies.write(SiteFailure(order.site, message.round, order.phase, "refused", reason))

    def _report(self, *values: Any) -> None:
        self._connection.send(Advance(values))
        if self._connection.poll() and isinstance(self._connection.recv(), Stop):  # nothing else comes now
            raise StoppedError("it was told to end its work")


def _workplace(start: Start, memory: SharedMemory, progress: Any) -> Workplace:
    """Makes clients' factory as it is in the other process; plugins come through the same door as there."""
    discover()
    if start.program is not None:  # as multiprocessing does: what the script does under its own name is not done
        namespace = runpy.run_path(start.program, run_name="__mp_main__")
        sys.modules["__main__"].__dict__.update(namespace)
    make_client: ClientFactory = memory.open(start.factory)
    threads = make_client.local.threads
    if threads is not None:
        torch.set_num_threads(threads)
    return Workplace(make_client, {}, progress, start.resident)


def main() -> None:
    """Works until the process that started this one ends or closes the connection."""
    descriptors = [int(argument) for argument in sys.argv[1:5]]
    end_with_parent(end_group, parent=int(sys.argv[5]))
    connection, (factory, broadcasts, replies) = Connection(descriptors[0]), map(SharedMemory, descriptors[1:])
    try:
        Worker(connection, broadcasts, replies).serve(factory)
    except (EOFError, ConnectionError):
        end_group()  # nobody listens any more
