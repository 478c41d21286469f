"""Rounds by the real clock in processes of their own: who is slow holds nobody up, and the record repeats the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fedlight_algorithms import Scaffold

from fedlight.checkpoint import RunFolder
from fedlight.executors import MultiProcess
from fedlight.federation import Federation
from fedlight.replay import Replay
from fedlight.schedule import Buffered, Deadline
from tests.conftest import small_sites, small_task
from tests.executors.faulty import Slow, alive
from tests.test_real_time import bits, rows, starts

pytestmark = pytest.mark.slow

Federate = Callable[..., Federation]
SETTINGS: dict[str, Any] = {"aggregator": Scaffold(), "optimizer_state": "keep", "threads": 1}


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder


def repeated(federate: Federate, folder: RunFolder, pids: Path, **settings: Any) -> RunFolder:
    """The run once more, in one process, with no site slow."""
    replay = {"schedule": Replay(str(folder.path)), "run_folder": f"{folder.path}-again"}
    return federate(**SETTINGS, **settings, **replay, plugins=[Slow({}, str(pids))]).fit(small_task(), small_sites())


def test_a_buffer_waits_for_no_slow_site_which_ends_with_the_last_round(
    federate: Federate, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """site3 sleeps before its first batch for longer than the test may take: four versions are made without it.

    With the last one it is told to end, and does not; then its process is ended, and another scores the model.
    """
    monkeypatch.setattr("fedlight.executors.desk._GRACE", 0.5)
    settings: dict[str, Any] = {"rounds": 4, "evaluate_every": 4}
    folder = federate(
        **SETTINGS,
        **settings,
        plugins=[Slow({"site3": 3600.0}, str(pids))],
        schedule=Buffered(buffer=2, clock="real"),
        executor=MultiProcess(3),
    ).fit(small_task(), small_sites())
    assert starts(folder) == [{"site1": number, "site2": number} for number in range(4)]
    assert {row["site"] for row in rows(folder, "val")} == {"site1", "site2", "site3"}
    assert not alive(pids)
    assert bits(repeated(federate, folder, pids, **settings)) == bits(folder)


def test_sites_that_are_not_needed_end_their_work_and_their_processes_stay(federate: Federate, pids: Path) -> None:
    """Two of three count; site3 would sleep for half a minute, and is told to end after a second or two of it."""
    settings: dict[str, Any] = {"rounds": 2, "cohort": 0.67, "local_steps": 20}
    folder = federate(
        **SETTINGS,
        **settings,
        plugins=[Slow({"site3": 1.5}, str(pids))],
        schedule=Deadline(extra=0.5, clock="real"),
        executor=MultiProcess(3),
    ).fit(small_task(), small_sites())
    assert starts(folder) == [{"site1": number, "site2": number} for number in range(2)]
    failures = {(row["site"], row["cause"], row["reason"]) for row in rows(folder, "failure")}
    assert failures == {("site3", "unneeded", "not needed: 2 others were first")}
    assert len(list(pids.glob("*.pid"))) == 3
    assert not alive(pids)
    assert bits(repeated(federate, folder, pids, **settings)) == bits(folder)
