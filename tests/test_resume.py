"""Claims about a run that is interrupted: it goes on and ends with the bits of an uninterrupted one."""

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
from fedlight_algorithms.fedavgm import FedAvgM
from fedlight_algorithms.local import Local

from fedlight import state
from fedlight.checkpoint import RunFolder, SiteStore
from fedlight.federation import Federation
from fedlight.plugins import ClientPlugin
from fedlight.preparation import ConfigError
from fedlight.serialization import read
from fedlight.update import Broadcast
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]
STATEFUL: dict[str, Any] = {"optimizer_state": "keep", "cohort": 0.7, "rounds": 5}


def final(folder: Path) -> str:
    """One digest of everything that the next round would start from."""
    saved = RunFolder(folder).load()
    assert saved is not None
    tensors = dict(_tensors(saved, "server"))
    for site in sorted((folder / "sites").iterdir()):
        path = max(site.glob("[0-9]*.safetensors"))
        tensors |= _tensors(read(path), f"{site.name}/{path.name}")
    return state.digest(tensors)


def _tensors(tree: Any, name: str) -> dict[str, torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    if isinstance(tree, dict):
        return {k: v for key, branch in tree.items() for k, v in _tensors(branch, f"{name}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for i, branch in enumerate(tree) for k, v in _tensors(branch, f"{name}/{i}").items()}
    return {}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]


class StopError(Exception):
    """Stands for whatever ends a process between two rounds."""


class Failing(ClientPlugin):
    """Fails at site1 in round 3."""

    def on_round_start(self, site: str, module: Any, broadcast: Broadcast) -> None:
        if (site, broadcast.context.round) == ("site1", 3):
            raise RuntimeError("no power")


def stop_after(federation: Federation, rounds: int) -> None:
    whole = federation._round

    def limited(run: Any, number: int) -> None:
        if number > rounds:
            raise StopError
        whole(run, number)

    federation._round = limited  # type: ignore[method-assign]


@pytest.mark.parametrize("done", [1, 3])
@pytest.mark.parametrize("aggregator", [FedAvgM(momentum=0.5), Local()])
def test_resumed_equals_uninterrupted(federate: Federate, tmp_path: Path, done: int, aggregator: Any) -> None:
    settings = {**STATEFUL, "aggregator": aggregator, "plugins": [AdaIN(p=0.9, min_images=1)]}
    whole = federate(**settings, run_folder=str(tmp_path / "whole")).fit(small_task(), small_sites())
    first = federate(**settings, run_folder=str(tmp_path / "parts"))
    stop_after(first, done)
    with pytest.raises(StopError):
        first.fit(small_task(), small_sites())
    parts = federate(**settings, run_folder=str(tmp_path / "parts")).fit(small_task(), small_sites(), ckpt_path="last")
    assert final(parts.path) == final(whole.path)
    assert rows(parts.path) == rows(whole.path)


def test_last_without_a_run_starts_one(federate: Federate) -> None:
    folder = federate().fit(small_task(), small_sites(), ckpt_path="last")
    assert folder.path.name == "run"
    assert folder.selected.is_file()


def test_which_run_last_is_can_be_read_where_it_is_not_plain(
    federate: Federate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(ckpt_path: str | None) -> str:
        federate(rounds=1, local_steps=1, console=True).fit(small_task(), small_sites(), ckpt_path=ckpt_path)
        return "".join(line for line in capsys.readouterr().out.splitlines() if line.startswith("  last "))

    run = tmp_path / "run"
    assert said("last") == f"  last      no run in {run} yet, so a new one begins"
    assert said("last") == said(None) == ""
    assert said("last") == f"  last      {run}-2, the newest with this config of 2 runs from {run} on"


def test_a_second_run_never_overwrites_the_first(federate: Federate) -> None:
    first = federate(rounds=1).fit(small_task(), small_sites())
    before = final(first.path)
    second = federate(rounds=1).fit(small_task(), small_sites())
    assert second.path.name == "run-2"
    assert final(first.path) == before


def test_a_finished_run_is_not_trained_again(federate: Federate) -> None:
    federate().fit(small_task(), small_sites())
    federation = federate()
    stop_after(federation, 0)
    federation.fit(small_task(), small_sites(), ckpt_path="last")


def test_going_on_with_another_config_is_refused_by_name(federate: Federate) -> None:
    config = {"federation": {"rounds": 3, "local_steps": 2}}
    federate(config=config).fit(small_task(), small_sites())
    changed = {"federation": {"rounds": 3, "local_steps": 4}}
    with pytest.raises(ConfigError, match=r"federation\.local_steps was 2, is 4"):
        federate(config=changed, local_steps=4).fit(small_task(), small_sites(), ckpt_path="last")


def test_more_rounds_may_be_asked_for_but_not_fewer_than_done(federate: Federate) -> None:
    federate(rounds=2, config={"federation": {"rounds": 2}}).fit(small_task(), small_sites())
    longer = federate(rounds=3, config={"federation": {"rounds": 3}})
    folder = longer.fit(small_task(), small_sites(), ckpt_path="last")
    saved = folder.load()
    assert saved is not None
    assert saved["server"]["round"] == 3
    with pytest.raises(ConfigError, match="rounds must be at least 3"):
        federate(rounds=1, config={"federation": {"rounds": 1}}).fit(small_task(), small_sites(), ckpt_path="last")


def test_a_truncated_checkpoint_is_passed_over_for_the_round_before(
    federate: Federate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = federate(run_folder=str(tmp_path / "whole"), **STATEFUL).fit(small_task(), small_sites())
    folder = federate(run_folder=str(tmp_path / "torn"), **STATEFUL).fit(small_task(), small_sites())
    newest = sorted(folder.rounds.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    for store in map(SiteStore, sorted(folder.sites.iterdir())):  # killed in the round after: they have stored theirs
        saved = store.load(int(newest.stem))
        assert saved is not None
        store.save(int(newest.stem) + 1, saved)
    federate(run_folder=str(tmp_path / "torn"), **STATEFUL).fit(small_task(), small_sites(), ckpt_path="last")
    assert "is damaged" in caplog.text
    assert final(folder.path) == final(whole.path)


def test_a_resume_that_is_refused_removes_nothing(federate: Federate) -> None:
    """site2 has lost its state of round 2, and site1 has stored a round 3 that was not final."""
    settings: dict[str, Any] = {"optimizer_state": "keep"}
    folder = federate(rounds=2, **settings).fit(small_task(), small_sites())
    stored = folder.sites / "site1"
    (stored / "00003.safetensors").write_bytes((stored / "00002.safetensors").read_bytes())
    for file in (folder.sites / "site2").glob("0*"):
        file.unlink()
    with pytest.raises(ConfigError, match="must hold what site2 keeps, but it is missing"):
        federate(rounds=3, **settings).fit(small_task(), small_sites(), ckpt_path="last")
    assert (stored / "00003.safetensors").is_file()


def test_what_a_site_stored_of_a_round_that_was_not_completed_does_not_count(federate: Federate) -> None:
    """Killed between a site's work and the commit of round 3; then the site fails in it: its round 4 starts from 2."""
    settings: dict[str, Any] = {"optimizer_state": "keep", "plugins": [Failing()]}
    folder = federate(rounds=2, **settings).fit(small_task(), small_sites())
    stored = folder.sites / "site1"
    (stored / "00003.safetensors").write_bytes((stored / "00001.safetensors").read_bytes())
    federate(rounds=3, **settings).fit(small_task(), small_sites(), ckpt_path="last")
    assert sorted(path.name for path in stored.iterdir()) == ["00001.safetensors", "00002.safetensors"]


def test_two_processes_do_not_train_in_one_folder(federate: Federate) -> None:
    folder = federate(rounds=1).fit(small_task(), small_sites())
    with folder.lock(), pytest.raises(ConfigError, match="in use by another process"):
        federate(rounds=2).fit(small_task(), small_sites(), ckpt_path="last")


PROGRAM = """
import sys
from tests.conftest import small_sites, small_task, fedavg
from fedlight_algorithms.adain import AdaIN
from fedlight.federation import Federation
Federation(
    fedavg(), [AdaIN(p=0.9, min_images=1)], rounds=6, local_steps=2, cohort=0.7, optimizer_state="keep",
    run_folder=sys.argv[1], trainer={"accelerator": "cpu", "devices": 1}, console=False,
).fit(small_task(), small_sites(), ckpt_path="last")
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder)], env=environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert start(folder).wait(120) == 0
    return folder


def kill_after(folder: Path, rounds: int, delay: float) -> None:
    """Starts or continues the run and kills it some time after a round became final."""
    process = start(folder)
    deadline = time.monotonic() + 60
    while not list((folder / "rounds").glob(f"0000{rounds}.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_any_instant_it_ends_with_the_same_bits(tmp_path: Path, whole: Path) -> None:
    """SIGKILL lands in training, aggregation, evaluation or while a checkpoint is written, four times in one run."""
    killed = tmp_path / "killed"
    for rounds, delay in ((1, 0.0), (2, 0.011), (3, 0.029), (4, 0.053)):
        kill_after(killed, rounds, delay)
    assert start(killed).wait(120) == 0
    assert final(killed) == final(whole)
    assert rows(killed) == rows(whole)
