"""Processes that belong to another one: they must not outlive it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_INTERVAL = 0.5
"""Seconds between two looks at the parent."""


def end_with_parent(end: Callable[[], object], parent: int) -> None:
    """Watches, on a thread of its own, for the end of the process that started this one.

    Args:
        end: Called when it has ended, by whatever means, be it before this call; should end this process.
        parent: Its process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_INTERVAL)
        end()

    threading.Thread(target=watch, name="fedlight-parent", daemon=True).start()


def end_group(leader: int | None = None) -> None:
    """Ends the leader of a process group and all that it has started, at once; nothing if they have ended.

    Args:
        leader: Its process id; this process, which leads its group, if left out.
    """
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a process that has ended
        os.killpg(os.getpgrp() if leader is None else leader, signal.SIGKILL)
