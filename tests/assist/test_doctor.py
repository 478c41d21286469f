"""``fedlight doctor``: what stops a run is a problem with its way out, and nothing calls home."""

from __future__ import annotations

import json
import shutil
import socket
import tomllib
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from fedlight.__main__ import main
from fedlight.assist import doctor


class Usage(NamedTuple):
    """As shutil has it."""

    total: float
    used: float
    free: float


def levels(checks: Any) -> dict[str, str]:
    return {check.name: check.level for check in checks}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: Any, **settings: Any) -> NoReturn:
        raise AssertionError("the doctor called a network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)


def test_a_machine_that_passes_the_tests_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "Nothing stops a run." in said
    assert "not asked; --online does" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_problem_gives_exit_code_1_and_json_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("data: {class_path: FolderSites, init_args: {root: nowhere}}\n")
    assert main(["doctor", "-c", "a.yaml", "--json"]) == 1
    problems = [check for check in json.loads(capsys.readouterr().out) if check["level"] == "problem"]
    assert [check["name"] for check in problems] == ["data"]
    assert problems[0]["text"] == "data.root must be a folder, got nowhere. Give it with --data.root."


def test_an_old_or_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"torch": "2.0.0", "rich": None}
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: found[name] if name in found else version(name))
    problems = {check.name: check.text for check in doctor.versions() if check.level == "problem"}
    assert problems == {
        "torch": "must be >=2.8, got 2.0.0. Get it with: pip install 'torch>=2.8'.",
        "rich": "is not installed. Get it with: pip install 'rich>=13.9'.",
    }


def test_a_broken_torch_is_said_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> NoReturn:
        raise OSError("libtorch.so: no such file")

    monkeypatch.setattr("fedlight.assist.doctor.importlib.import_module", broken)
    (check,) = doctor.device({})
    assert check.level == "problem"
    assert "libtorch.so" in check.text


def test_a_gpu_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_gpus", lambda torch: [])
    assert levels(doctor.device({"trainer": {"accelerator": "gpu"}}))["device"] == "problem"
    assert levels(doctor.device({"trainer": {"accelerator": "auto"}}))["device"] == "ok"
    assert levels(doctor.device({"federation": {"threads": 10_000}}))["threads"] == "warning"


@pytest.mark.parametrize(("gigabytes", "level"), [(0.05, "problem"), (1.0, "warning"), (50.0, "ok")])
def test_little_disk_warns_and_none_stops(
    gigabytes: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, gigabytes * 1e9))
    (check,) = doctor.disk(tmp_path / "not" / "there" / "yet")
    assert check.level == level


def test_a_run_folder_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (check,) = doctor.disk(tmp_path / "file" / "run")
    assert check.level == "problem"


def test_loaders_need_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm on this system")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0.06e9))
    assert levels(doctor.memory({"data": {"init_args": {"num_workers": 2}}}))["shared memory"] == "problem"
    assert levels(doctor.memory({}))["shared memory"] == "ok"


def test_wandb_is_asked_only_with_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "nowhere")
    config = {"federation": {"trackers": [{"class_path": "WandbTracker", "init_args": {"mode": "online"}}]}}
    assert levels(doctor.wandb(config, online=False)) == {"W&B": "warning", "W&B server": "note"}
    asked: list[tuple[str, int]] = []

    def unreachable(address: tuple[str, int], timeout: float) -> NoReturn:
        asked.append(address)
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example:8080")
    assert levels(doctor.wandb({}, online=True))["W&B server"] == "warning"
    assert asked == [("wandb.example", 8080)]


def test_a_federation_over_a_network_needs_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert levels(doctor.flower({"federation": {"executor": "Flower"}})) == {"Flower": "problem"}
    assert levels(doctor.flower({})) == {"Flower": "note"}


def test_every_extra_has_a_purpose() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert set(project["project"]["optional-dependencies"]) <= doctor.EXTRAS.keys()


def test_a_config_that_cannot_be_read_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-c", "nowhere.yaml"]) == 2
    assert "config must be a file that can be read, got nowhere.yaml" in capsys.readouterr().err
