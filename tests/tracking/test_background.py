"""Work beside a run: in order, and never waited for."""

from __future__ import annotations

import threading
import time

from fedlight.tracking.background import Background


def test_jobs_run_in_order_on_what_was_opened() -> None:
    failures: list[Exception] = []
    background = Background(lambda: [0], failures.append)
    background.start()
    done: list[list[int]] = []
    for number in (1, 2, 3):
        background.submit(lambda opened, number=number: opened.append(number))  # type: ignore[misc]
    background.submit(done.append)
    assert background.close(5)
    assert done == [[0, 1, 2, 3]]
    assert not failures


def test_nobody_waits_for_what_never_opens() -> None:
    failures: list[Exception] = []
    release = threading.Event()
    background = Background(lambda: release.wait(), failures.append)
    started = time.monotonic()
    background.start()
    background.submit(lambda _: None)
    assert not background.close(0.2)
    assert time.monotonic() - started < 2
    assert [str(error) for error in failures] == ["no answer within 0.2 s"]
    release.set()


def test_the_first_failure_is_told_once_and_ends_the_work() -> None:
    failures: list[Exception] = []
    background = Background(dict[str, int], failures.append)
    background.start()
    for _ in range(3):
        background.submit(lambda opened: opened["missing"])  # type: ignore[arg-type]
    assert not background.close(5)
    assert [repr(error) for error in failures] == ["KeyError('missing')"]


def test_what_piles_up_before_a_stuck_resource_is_bounded() -> None:
    failures: list[Exception] = []
    release = threading.Event()
    background = Background(lambda: release.wait(), failures.append, limit=2)
    background.start()
    for _ in range(5):
        background.submit(lambda _: None)
    assert [str(error) for error in failures] == ["2 entries are waiting"]
    assert not background.close(5)
    release.set()
