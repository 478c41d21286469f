"""Flower's programs on a leash: a program ends with the process that started it, and takes along what it started.

Run as a module, this is the half inside the program's own process, which leads a process group of its own.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fedlight.processes import end_group, end_with_parent

_GRACE = 10.0  # seconds that a program has to end when it is asked to
_REST = 3.0  # seconds that what it started has to end after it
_LOOK = 0.1


@dataclass
class Leashed:
    """A program on a leash.

    Attributes:
        process: Its process.
        asked: Whether a signal has asked for its end.
    """

    process: subprocess.Popen[str]
    asked: bool = False

    def ask(self, number: int, frame: object) -> None:
        """Passes a signal's request to end on, as SIGTERM."""
        self.asked = True
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Ends the program, if it has not ended, and what is left of all that it started."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        limit = time.monotonic() + _REST
        while _any(self.process.pid) and time.monotonic() < limit:
            time.sleep(_LOOK)
        end_group(self.process.pid)
        self.process.wait()


@contextmanager
def leashed(command: Sequence[str], environment: Mapping[str, str], stderr: int | None = None) -> Iterator[Leashed]:
    """Runs a program for a block, with SIGTERM and SIGINT passed on to it; it does not outlive the block.

    Args:
        command: A Python program and its arguments.
        environment: Variables beside those of this process.
        stderr: Where it writes its errors, as for ``Popen``.
    """
    inside = [sys.executable, "-P", "-m", "fedlight.deploy.leash", str(os.getpid()), *command]
    variables = os.environ | environment
    started = Leashed(subprocess.Popen(inside, env=variables, stderr=stderr, text=True, start_new_session=True))
    before = {number: signal.signal(number, started.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield started
    finally:
        started.end()
        for number, handler in before.items():
            signal.signal(number, handler)


def _any(group: int) -> bool:
    """Says whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # macOS says so of processes that have ended
    return True


def _end_all() -> None:
    """Ends this program, and what it started even if that leads a group of its own, as far as Linux tells."""
    for child in _children(os.getpid()):
        end_group(child)  # nothing if it leads none: then it is of this group
    end_group()


def _children(pid: int) -> list[int]:
    """Returns the processes that one has started; nothing where there is no ``/proc``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def _main(arguments: Sequence[str]) -> None:
    """Becomes a program that ends with its parent: the parent's process id, the program, its arguments."""
    end_with_parent(_end_all, parent=int(arguments[0]))
    sys.argv = list(arguments[1:])
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main(sys.argv[1:])
