"""Claims about sites in processes of their own: the bits of one process, whatever happens to the processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fedlight_algorithms.adain import AdaIN
from fedlight_algorithms.local import Local

from fedlight.executors import InProcess, MultiProcess
from fedlight.executors.crew import LOG
from fedlight.federation import Federation
from fedlight.preparation import ConfigError
from tests.conftest import fedavg, small_sites, small_task
from tests.executors.faulty import Faulty, alive
from tests.test_resume import StopError, final, rows, stop_after

Federate = Callable[..., Federation]
STATEFUL: dict[str, Any] = {"optimizer_state": "keep", "cohort": 0.7, "rounds": 4, "threads": 1}


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder


# --- the same bits -----------------------------------------------------------------------------------------------


def test_processes_and_in_process_agree_bit_for_bit_also_when_a_run_goes_on_elsewhere(
    federate: Federate, tmp_path: Path
) -> None:
    """BatchNorm, kept momentum and a style bank: parameters, buffers, states of plugins and optimizers, and records."""

    def run(name: str, executor: Any, done: int | None = None) -> Path:
        federation = federate(
            **STATEFUL, plugins=[AdaIN(p=0.9, min_images=1)], executor=executor, run_folder=str(tmp_path / name)
        )
        if done is None:
            return federation.fit(small_task(norm="batch"), small_sites(), ckpt_path="last").path
        stop_after(federation, done)
        with pytest.raises(StopError):
            federation.fit(small_task(norm="batch"), small_sites())
        return tmp_path / name

    whole, apart = run("whole", InProcess()), run("apart", MultiProcess(2))
    run("mixed", MultiProcess(1, resident=1), done=2)
    mixed = run("mixed", InProcess(resident=1))
    assert final(apart) == final(mixed) == final(whole)
    assert rows(apart) == rows(mixed) == rows(whole)
    assert (apart / "global.ckpt").read_bytes() == (whole / "global.ckpt").read_bytes()
    assert not (apart / LOG).exists()


@pytest.mark.parametrize("resident", [1, 2])
def test_how_many_clients_stay_in_memory_changes_no_bit(federate: Federate, tmp_path: Path, resident: int) -> None:
    settings: dict[str, Any] = {**STATEFUL, "aggregator": Local(), "plugins": [AdaIN(p=0.9, min_images=1)]}
    runs = [
        federate(**settings, executor=InProcess(number), run_folder=str(tmp_path / str(number))).fit(
            small_task(), small_sites()
        )
        for number in (9, resident)
    ]
    assert final(runs[0].path) == final(runs[1].path)
    assert rows(runs[0].path) == rows(runs[1].path)


def test_a_site_with_nothing_to_keep_stores_next_to_nothing(federate: Federate) -> None:
    """The network has 124 thousand parameters, half a megabyte."""
    folder = federate(rounds=1).fit(small_task(), small_sites())
    sizes = [path.stat().st_size for path in folder.sites.glob("*/*.safetensors")]
    assert len(sizes) == 3
    assert max(sizes) < 1000


def test_scores_of_a_run_agree(federate: Federate, tmp_path: Path) -> None:
    folder = federate(rounds=1, threads=1).fit(small_task(), small_sites())
    scored = [
        federate(threads=1, executor=executor).test(small_task(), small_sites(), ckpt_path=str(folder.path))
        for executor in (InProcess(), MultiProcess(2))
    ]
    assert scored[0] == scored[1]
    assert {one.site for one in scored[1]} == {"site1", "site2", "site3", "site4"}


# --- faults ------------------------------------------------------------------------------------------------------

FAULTS = {
    "site2, 2": "raise",
    "site3, 2": "kill once",
    "site1, 3": "kill",
    "site1, 4": "hang",
    "site3, 5": "nan",
    "site1, 6": "shape",
    "site2, 6": "unsendable",
    "site1, 7": "sys.exit",
    "site3, 7": "exit",
}
"""Each site has failed and come back by the last round, the eighth. site3 waits for the worker of site1, also in
round 4, in which that hangs: it has a deadline of its own."""

FAILURES = [
    (2, "site2", "raised", "RuntimeError: the scanner is on fire"),
    (3, "site1", "lost", "its process was ended by SIGKILL"),
    (4, "site1", "late", "no answer within 30 s"),
    (5, "site3", "refused", "update refused: "),
    (6, "site1", "refused", "has shape (3,), expected "),
    (6, "site2", "refused", "its answer cannot be sent: "),
    (7, "site1", "raised", "SystemExit: 2"),
    (7, "site3", "lost", "its process ended with exit code 3"),
]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which everything happens; its folder stands beside that of the process ids."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "pids").mkdir()
    torch.set_num_threads(1)
    Federation(
        fedavg(),
        [Faulty(FAULTS, str(folder / "pids"))],
        rounds=8,
        local_steps=1,
        evaluate_every=8,
        optimizer_state="keep",
        threads=1,
        executor=MultiProcess(2, deadline=30),
        run_folder=str(folder / "run"),
        trainer={"accelerator": "cpu", "devices": 1},
        console=False,
    ).fit(small_task(), small_sites())
    return folder


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [row for row in rows(folder / "run") if row["kind"] == kind]


@pytest.mark.slow
def test_every_fault_becomes_a_failure_that_says_what_it_was(faulty: Path) -> None:
    failures = of_kind(faulty, "failure")
    assert [(row["round"], row["site"], row["cause"]) for row in failures] == [failure[:3] for failure in FAILURES]
    assert all(reason in row["reason"] for row, (*_, reason) in zip(failures, FAILURES, strict=True))


@pytest.mark.slow
def test_the_rounds_go_on_with_the_other_sites_and_sites_come_back(faulty: Path) -> None:
    failed = {(number, site) for number, site, _, _ in FAILURES}
    expected = {(number, f"site{site}") for number in range(1, 9) for site in (1, 2, 3)} - failed
    assert {(row["round"], row["site"]) for row in of_kind(faulty, "fit")} == expected
    assert len(of_kind(faulty, "round")) == 8


@pytest.mark.slow
def test_a_site_whose_process_ended_once_is_tried_again_and_that_is_noted(faulty: Path) -> None:
    assert ("site3", 2) in {(row["site"], row["round"]) for row in of_kind(faulty, "fit")}
    notes = (faulty / "run" / "errors.log").read_text()
    assert "site3, round 2, fit\nits process was ended by SIGKILL; it is tried again\n" in notes
    assert "RuntimeError: the scanner is on fire" in notes
    assert "Traceback" in notes


@pytest.mark.slow
def test_a_run_with_faults_leaves_no_process_behind(faulty: Path) -> None:
    """Among those that were there is one that a site that hung had started."""
    assert len(list((faulty / "pids").glob("*.pid"))) >= 2 + 1 + 2 + 1 + 2
    assert not alive(faulty / "pids")


@pytest.mark.slow
def test_a_site_that_was_lost_or_late_costs_what_one_that_raised_costs(faulty: Path, federate: Federate) -> None:
    """In one process, sites raise in the same rounds: all that is kept is the same, momentum of the sites too."""
    same = ("nan", "shape", "unsendable")
    plan = {key: how if how in same else "raise" for key, how in FAULTS.items() if how != "kill once"}
    settings: dict[str, Any] = {"optimizer_state": "keep", "threads": 1, "rounds": 8, "evaluate_every": 8}
    whole = federate(**settings, local_steps=1, plugins=[Faulty(plan, str(faulty))])
    folder = whole.fit(small_task(), small_sites())
    for path in faulty.glob("*.pid"):
        path.unlink()
    assert final(folder.path) == final(faulty / "run")


def test_a_full_disk_at_a_site_stops_the_run_which_goes_on_later(
    federate: Federate, tmp_path: Path, pids: Path
) -> None:
    settings: dict[str, Any] = {"rounds": 2, "threads": 1, "evaluate_every": 2}
    full = federate(**settings, executor=MultiProcess(1), plugins=[Faulty({"site2, 2": "disk full"}, str(pids))])
    with pytest.raises(OSError, match="No space left"):
        full.fit(small_task(), small_sites())
    assert not alive(pids)
    (tmp_path / "run" / "sites" / "site2" / "00002.safetensors.part").unlink()
    after = federate(**settings, plugins=[Faulty({}, str(pids))]).fit(small_task(), small_sites(), ckpt_path="last")
    whole = federate(**settings, plugins=[Faulty({}, str(pids))], run_folder=str(tmp_path / "whole"))
    assert final(after.path) == final(whole.fit(small_task(), small_sites()).path)


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("executor", "sentence"),
    [
        (MultiProcess(0), "executor.workers must be at least 1, got 0"),
        (MultiProcess(deadline=0), "executor.deadline must be above 0 seconds, got 0"),
        (MultiProcess(retries=-1), "executor.retries must be at least 0, got -1"),
        (MultiProcess(resident=0), "executor.resident must be at least 1, got 0"),
        (InProcess(0), "executor.resident must be at least 1, got 0"),
    ],
)
def test_arguments_that_cannot_work_are_refused(federate: Federate, executor: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        federate(executor=executor).fit(small_task(), small_sites())


def test_what_no_other_process_can_have_is_refused_before_any_process_is_started(federate: Federate) -> None:
    task = small_task(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    with pytest.raises(ConfigError, match=r"another process can have them, got one that cannot: .*lambda"):
        federate(executor=MultiProcess(1)).fit(task, small_sites())


# --- the end of the server ---------------------------------------------------------------------------------------

PROGRAM = """
import sys
from tests.conftest import small_sites, small_task, fedavg
from tests.executors.faulty import Faulty
from fedlight.executors import InProcess, MultiProcess
from fedlight.federation import Federation
Federation(
    fedavg(), [Faulty(dict([sys.argv[4].split(": ")]), sys.argv[2])], rounds=3, local_steps=2, optimizer_state="keep",
    threads=1, executor={"apart": MultiProcess(2), "here": InProcess()}[sys.argv[3]], run_folder=sys.argv[1],
    trainer={"accelerator": "cpu", "devices": 1}, console=False,
).fit(small_task(), small_sites(), ckpt_path="last")
"""


def start(folder: Path, where: str, plan: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [str(folder / "run"), str(folder / "pids"), where, plan]
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments], env=environment)


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_when_the_server_ends_its_workers_and_what_they_started_end_and_the_run_goes_on(
    tmp_path: Path, federate: Federate, number: signal.Signals
) -> None:
    """A site hangs in round 2, with a process of its own; a third of those is there when the signal comes."""
    pids = tmp_path / "pids"
    pids.mkdir()
    server = start(tmp_path, "apart", "site2, 2: hang")
    assert wait_for(lambda: len(alive(pids)) == 3, 120)
    server.send_signal(number)
    assert server.wait(20) != 0
    assert wait_for(lambda: not alive(pids), 10)
    if number != signal.SIGKILL:  # the gentler end leaves no less
        return
    assert start(tmp_path, "here", "nobody: raise").wait(120) == 0
    settings: dict[str, Any] = {"optimizer_state": "keep", "threads": 1, "run_folder": str(tmp_path / "whole")}
    whole = federate(**settings, plugins=[Faulty({}, str(pids))]).fit(small_task(), small_sites())
    assert final(tmp_path / "run") == final(whole.path)
    assert rows(tmp_path / "run") == rows(whole.path)


LOOSE = '''
"""Writes down where it is."""
import os, sys, warnings
from pathlib import Path
from fedlight.plugins import ClientPlugin


class Footprint(ClientPlugin):
    """Leaves the number of its process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_round_start(self, site, module, broadcast):
        (Path(self.folder) / f"{os.getpid()}.pid").touch()
        print("printed at a site")
        warnings.warn("warned at a site")
'''


@pytest.mark.slow
def test_with_too_few_sites_left_the_command_says_who_was_lost_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "fedlight", "fit", "-c", "configs/quickstart.yaml"]
    command += ["--load", "tests/executors/faulty.py", "--federation.plugins+=Faulty"]
    command += [
        "--federation.plugins.plan",
        '{"site2, 1": "kill"}',
        "--federation.plugins.folder",
        str(tmp_path / "pids"),
    ]
    command += ["--federation.executor", "MultiProcess", "--federation.executor.retries", "0"]
    command += ["--federation.executor.workers", "1", "--federation.min_sites", "4", "--federation.local_steps", "1"]
    command += ["--data.image_size", "16", "--federation.run_folder", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    reason = "its process was ended by SIGKILL"
    assert f"round 1 has 3 usable updates but needs 4 (min_sites); site2: {reason}" in done.stderr
    assert f"site2  failed in fit: {reason}" in done.stdout
    assert "1,site2,failure,fit/lost,1,," in (tmp_path / "run" / "metrics.csv").read_text()
    assert not alive(tmp_path / "pids")


@pytest.mark.slow
def test_the_command_line_runs_sites_apart_with_loose_plugins_and_a_clean_console(tmp_path: Path) -> None:
    loose = tmp_path / "footprint.py"
    loose.write_text(LOOSE)
    (tmp_path / "pids").mkdir()
    command = [sys.executable, "-m", "fedlight", "fit", "-c", "configs/quickstart.yaml", "--load", str(loose)]
    command += ["--federation.executor", "MultiProcess", "--federation.executor.workers", "2"]
    command += ["--federation.plugins+=Footprint", "--federation.plugins.folder", str(tmp_path / "pids")]
    command += ["--federation.rounds", "1", "--federation.local_steps", "1", "--data.image_size", "16"]
    command += ["--federation.run_folder", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "at a site" not in done.stdout + done.stderr
    log = (tmp_path / "run" / LOG).read_text()
    assert "printed at a site" in log
    assert "warned at a site" in log
    assert len(list((tmp_path / "pids").glob("*.pid"))) == 2
    assert not alive(tmp_path / "pids")
    record = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {row["site"] for row in record if row["kind"] == "fit"} == {"site1", "site2", "site3", "site4"}
