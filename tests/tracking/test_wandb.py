"""The real wandb, offline, read back; and a server that refuses or hangs."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fedlight.benchmark.plan import Arm, Job
from fedlight.benchmark.runner import wandb_names

PROGRAM = Path(__file__).with_name("wandb_program.py")
CONFIG = {"seed": 1, "data": {"sites": ["a", "b"], "held_out": "c"}, "lr": 0.1, "ckpt": None}
SECRETS = ("hospital_program", "clinic_checkout", "nurse_account", "secret_remote", socket.gethostname())

Records = list[dict[str, Any]]


class Result:
    """What a program left behind."""

    def __init__(self, folder: Path, process: subprocess.CompletedProcess[str], ended: float) -> None:
        self.folder = folder
        self.output = process.stderr
        printed = json.loads(process.stdout)
        self.seconds: dict[str, float] = printed["seconds"]
        self.exit_seconds = ended - printed["ended"]

    @property
    def files(self) -> list[Path]:
        return sorted((self.folder / "wandb").glob("*run-*/*.wandb"))

    def records(self, kind: str, file: int = 0) -> Records:
        """What W&B's own reader finds."""
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(self.files[file])]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


def train(
    folder: Path, base_url: str | None = None, variables: Mapping[str, str] | None = None, **options: Any
) -> Result:
    """Runs the program under a name and in a place that no record may contain."""
    place = folder.parent / "clinic_checkout"
    if not place.exists():
        place.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", str(place)], check=True)
        subprocess.run(["git", "-C", str(place), "remote", "add", "secret_remote", "/secret_remote"], check=True)
        shutil.copy(PROGRAM, place / "hospital_program.py")
    folder.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"USER": "nurse_account", "LOGNAME": "nurse_account", "HOME": str(place), "OMP_NUM_THREADS": "1"}
    environment |= variables or {}
    if base_url is not None:
        environment |= {"WANDB_BASE_URL": base_url, "WANDB_API_KEY": "k" * 40}
    command = [sys.executable, str(place / "hospital_program.py"), str(folder), json.dumps(options)]
    process = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    ended = time.time()
    assert process.returncode == 0, process.stderr
    return Result(folder, process, ended)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train(tmp_path_factory.mktemp("offline") / "run", tags=["retina"])


def test_a_federation_is_one_run_with_group_job_type_and_tags(offline: Result) -> None:
    assert len(offline.files) == 1
    (run,) = offline.records("run")
    assert run["run_group"] == "held-out-c"
    assert run["job_type"] == "federation"
    assert run["tags"] == ["retina"]
    assert run["display_name"] == "two-sites"
    assert run["run_id"] == (offline.folder / "wandb_id").read_text().strip()
    assert [record["exit_code"] for record in offline.records("exit")] == [0]


def test_the_resolved_config_is_recorded(offline: Result) -> None:
    config = dict(offline.records("run")[0]["config"]["update"])
    config.pop("_wandb")
    assert config == CONFIG


def test_round_is_the_axis_of_every_site(offline: Result) -> None:
    metrics = offline.records("metric")
    axes = {metric.get("glob_name") or metric["name"]: metric.get("step_metric") for metric in metrics}
    sections = ("a/*", "b/*", "mean/*", "worst/*", "federation/*", "mean/val_dice")
    assert axes == dict.fromkeys(sections, "round") | {"round": None}


def test_rounds_only_grow_and_have_every_site(offline: Result) -> None:
    """Dice 0.5 and 0.75 at the sites: mean 0.625, worst 0.5."""
    rows = [row["item"] for row in offline.records("history")]
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert [row["_step"] for row in rows] == [0, 1, 2]
    expected = {"a/train_loss": 0.5, "a/val_dice": 0.5, "a/val_iou": 0.25, "b/train_loss": 0.5, "b/val_dice": 0.75}
    expected |= {"mean/val_dice": 0.625, "worst/val_dice": 0.5, "a/bytes_up": 60, "federation/bytes_up": 120}
    assert expected.items() <= rows[1].items()


def test_the_held_out_institution_is_in_the_summary_only(offline: Result) -> None:
    summary: dict[str, Any] = {}
    for record in offline.records("summary"):
        summary |= record["update"]
    assert summary["held_out/dice"] == 0.25
    assert summary["best/round"] == 3
    assert summary["status"] == "finished"
    assert not [name for row in offline.records("history") for name in row["item"] if name.startswith("held_out")]


def test_the_global_checkpoint_is_an_artifact(offline: Result) -> None:
    (artifact,) = offline.records("artifact")
    assert sorted(artifact["aliases"]) == ["latest", "round-3"]  # W&B keeps them as a set
    assert artifact["type"] == "model"
    (entry,) = artifact["manifest"]["contents"]
    assert entry["path"] == "global.ckpt"
    assert Path(entry["local_path"]).is_relative_to(offline.folder)
    assert Path(entry["local_path"]).read_text() == "weights"


def test_nothing_about_the_machine_is_recorded(offline: Result) -> None:
    assert offline.records("run")[0]["host"] == "redacted"
    assert not offline.records("environment")
    assert_no_secrets(offline.files[0].read_bytes().replace(os.fsencode(offline.folder), b""))
    assert not list(offline.folder.rglob("wandb-metadata.json"))
    assert not list(offline.folder.rglob("requirements.txt"))


def test_wandb_writes_into_the_run_folder_only(offline: Result) -> None:
    place = offline.folder.parent / "clinic_checkout"
    assert {path.name for path in place.iterdir()} <= {".git", "hospital_program.py", "__pycache__"}
    assert offline.output == ""


def test_pixels_stay_here_unless_asked_for(offline: Result) -> None:
    assert not list(offline.folder.rglob("*.png"))
    assert not offline.records("files")


def test_overlays_have_prediction_and_ground_truth(tmp_path: Path) -> None:
    result = train(tmp_path / "run", overlays=True, log_checkpoint=False)
    (row,) = [row["item"] for row in result.records("history") if "a/overlays._type" in row["item"]]
    assert row["round"] == 3
    assert row["a/overlays.count"] == 2
    assert [sorted(masks) for masks in row["a/overlays.all_masks"]] == [["ground_truth", "prediction"]] * 2
    (table,) = result.folder.rglob("overlay_table_*.table.json")
    written = json.loads(table.read_text())
    assert written["columns"] == ["site", "example", "dice vessel"]
    assert [(line[0], line[2]) for line in written["data"]] == [("a", 1.0), ("a", 1.0)]
    assert not [artifact for artifact in result.records("artifact") if artifact["type"] == "model"]


def test_runs_of_a_benchmark_are_grouped_by_arm(tmp_path: Path) -> None:
    """The names are those that ``fedlight benchmark`` gives its jobs; what the user sets himself goes before."""
    names = wandb_names(tmp_path / "retina", Job(Arm("fedavg", ()), ("chase", "hrf"), 1))
    (run,) = train(tmp_path / "run", variables=names, job_type="mine", log_checkpoint=False).records("run")
    assert (run["run_group"], run["job_type"]) == ("retina/fedavg", "mine")
    assert (run["display_name"], names["WANDB_JOB_TYPE"]) == ("fedavg/chase+hrf/seed1", "held-out-chase-hrf")


@pytest.mark.slow
def test_a_resumed_run_goes_on_under_its_id(tmp_path: Path) -> None:
    train(tmp_path / "run")
    result = train(tmp_path / "run", start_round=2)
    first, second = result.records("run", 0) + result.records("run", 1)
    assert first["run_id"] == second["run_id"]
    assert [row["item"]["round"] for row in result.records("history", 1)] == [3]


@pytest.mark.slow
def test_the_machine_is_recorded_when_asked_for(tmp_path: Path) -> None:
    result = train(tmp_path / "run", share_machine=True)
    assert result.records("run")[0]["host"] == socket.gethostname()
    assert b"hospital_program" in result.files[0].read_bytes()


@pytest.fixture
def closed() -> str:
    """A server that refuses every connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes every connection and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["closed", "silent"])
def test_an_unreachable_server_costs_one_warning_and_no_time(
    server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Finishing waits 1 s, one more for W&B to keep that limit, and lets go; W&B alone would wait 30 s and longer."""
    result = train(tmp_path / "run", request.getfixturevalue(server), mode="online", finish_timeout=1)
    assert result.seconds["start"] < 1
    assert result.seconds["rounds"] < 1
    assert result.seconds["finish"] < 6
    assert result.exit_seconds < 6
    assert result.output.count("\n") == 1
    assert result.output.startswith("W&B stopped recording (")
    assert "the run goes on, and metrics.jsonl has every number" in result.output


@pytest.mark.slow
def test_without_credentials_nobody_is_asked(tmp_path: Path) -> None:
    result = train(tmp_path / "run", mode="online")
    assert "run `wandb login`" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.slow
def test_nothing_about_the_machine_is_sent(tmp_path: Path) -> None:
    with Server() as server:
        train(tmp_path / "run", server.url, mode="online", log_checkpoint=False)
    (created,) = [body for body in server.bodies if b"held-out-c" in body]
    assert json.loads(created)["variables"]["host"] in (None, "redacted")
    assert any(b"worst/val_dice" in body for body in server.bodies)
    for body in server.bodies:
        assert_no_secrets(body)


def assert_no_secrets(data: bytes) -> None:
    for secret in SECRETS:
        if len(secret) > 4:  # a shorter host name may be part of a word
            assert secret.encode() not in data, secret


class Server(http.server.ThreadingHTTPServer):
    """As much of W&B's server as a run needs, keeping what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.bodies: list[bytes] = []

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers what is asked with the least that W&B's client accepts."""

    protocol_version = "HTTP/1.1"
    project: dict[str, Any] = {"id": "p", "name": "fedlight", "entity": {"id": "e", "name": "team"}}  # noqa: RUF012
    answers: dict[str, Any] = {  # noqa: RUF012
        "RunResumeStatus": {"model": {**project, "bucket": None}},
        "UpsertBucket": {"upsertBucket": {"bucket": {"id": "b", "name": "r", "project": project}, "inserted": True}},
        "CreateRunFiles": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []}},
    }

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Server)
        self.server.bodies.append(body)
        data: object = next((data for name, data in self.answers.items() if name.encode() in body), {})
        self.reply(json.dumps({"data": data}).encode())

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_trackers_are_imported_without_wandb_or_lightning() -> None:
    code = "import sys, fedlight.tracking; print([m for m in ('wandb', 'lightning', 'monai') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
