"""The lock of a run folder, held by the process that trains in it; it ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_TRIES, _PAUSE = 4, 0.05  # whoever looks whether a run is at work has the lock for less than a thousandth of a second


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps every other process from training in a folder, which is made.

    Raises:
        BlockingIOError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        _take(file, folder)
        yield


def is_held(folder: Path) -> bool:
    """Says whether a process trains in a folder."""
    try:
        with (folder / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or none of ours to look at
        return False
    return False


def _take(file: TextIO, folder: Path) -> None:
    for tried in range(1, _TRIES + 1):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if tried == _TRIES:
                raise BlockingIOError(f"{folder} is in use by another process. Wait for it or name another.") from error
            time.sleep(_PAUSE)
        else:
            return
