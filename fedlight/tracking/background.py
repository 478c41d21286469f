"""Work that must not hold up a run: one thread, jobs in order, nobody waits for it longer than agreed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Resource = TypeVar("Resource")


class Background(Generic[Resource]):
    """Opens a resource on a thread of its own and gives it one job after the other.

    The first exception ends it: ``on_failure`` is told once, and later jobs are dropped. The thread never keeps the
    process alive.

    Args:
        open: Makes what the jobs work on; may be slow.
        on_failure: Told why the work ended early; called on the thread, or by ``submit`` when ``limit`` is reached.
        limit: Jobs that may wait; one more counts as a failure, so that a stuck resource cannot fill the memory.
    """

    def __init__(
        self, open: Callable[[], Resource], on_failure: Callable[[Exception], None], limit: int = 10_000
    ) -> None:
        self._open = open
        self._on_failure = on_failure
        self._jobs: queue.Queue[Callable[[Resource], None] | None] = queue.Queue(limit)
        self._thread = threading.Thread(target=self._work, name="fedlight-tracking", daemon=True)
        self._lock = threading.Lock()
        self._failed = False

    def start(self) -> None:
        """Starts the thread; returns at once."""
        self._thread.start()

    def submit(self, job: Callable[[Resource], None]) -> None:
        """Queues a job; never waits."""
        self._put(job)

    def close(self, seconds: float) -> bool:
        """Waits for the queued jobs, but no longer than ``seconds``.

        Returns:
            Whether all of them were done.
        """
        self._put(None)
        self._thread.join(0 if self._failed else seconds)
        if self._thread.is_alive():
            self._fail(TimeoutError(f"no answer within {seconds:g} s"))
        return not self._failed

    def _put(self, job: Callable[[Resource], None] | None) -> None:
        try:
            if not self._failed:
                self._jobs.put_nowait(job)
        except queue.Full:
            self._fail(TimeoutError(f"{self._jobs.maxsize} entries are waiting"))

    def _fail(self, error: Exception) -> None:
        with self._lock:
            told, self._failed = self._failed, True
        if not told:
            self._on_failure(error)

    def _work(self) -> None:
        try:
            resource = self._open()
            while not self._failed and (job := self._jobs.get()) is not None:
                job(resource)
        except Exception as error:
            self._fail(error)
