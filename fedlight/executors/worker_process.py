"""The other end of a worker: its process, what is sent to it, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from typing import IO, Any

from fedlight.executors.shared_memory import SharedMemory
from fedlight.executors.worker import Order, Start, Stop
from fedlight.processes import end_group

_PROGRAM = "from fedlight.executors.worker import main; main()"


class WorkerProcess:
    """A worker in a session of its own: signals of a terminal do not reach it, and all that it starts ends with it.

    Attributes:
        connection: To the worker; waits and reads.
        replies: Memory that the worker writes.
        ready: Whether the worker takes orders; set by who reads its messages.

    Args:
        factory: Memory with what makes clients.
        broadcasts: Memory for what sites are sent.
        start: What the worker needs to know first.
        output: Where it writes what it prints.
        environment: Variables that are different for this worker.
    """

    def __init__(
        self,
        factory: SharedMemory,
        broadcasts: SharedMemory,
        start: Start,
        output: IO[bytes],
        environment: Mapping[str, str],
    ) -> None:
        self.replies = SharedMemory()
        self.connection, theirs = Pipe()
        shared = [theirs.fileno(), *(memory.descriptor for memory in (factory, broadcasts, self.replies))]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, shared), str(os.getpid())],
            pass_fds=shared,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": _search_path(), **environment},
            start_new_session=True,
        )
        theirs.close()
        self.ready = False
        self._began = time.monotonic()
        self.send(start)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its process group too."""
        return self._process.pid

    @property
    def starting(self) -> float:
        """Seconds since it was started; 0 if it is ready."""
        return 0.0 if self.ready else time.monotonic() - self._began

    def send(self, message: Start | Order | Stop) -> None:
        """Sends a message; one to a process that has ended is lost, which ``ended`` tells."""
        with suppress(ConnectionError):
            self.connection.send(message)

    def received(self) -> Iterator[Any]:
        """Yields the messages that have come, without waiting."""
        with suppress(EOFError, ConnectionError):
            while self.connection.poll():
                yield self.connection.recv()

    @property
    def ended(self) -> str | None:
        """How the process ended; None while it is there."""
        code = self._process.poll()
        if code is None:
            return None
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def kill(self) -> None:
        """Ends the process and all that it has started, and waits for it."""
        end_group(self.pid)
        self._process.wait()
        self.connection.close()
        self.replies.close()


def _search_path() -> str:
    """Where the worker looks for modules: where this process does."""
    return os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
