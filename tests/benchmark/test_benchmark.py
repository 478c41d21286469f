"""The command on real, tiny jobs: what is done stays done, whatever ends it, and what fails is one row."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedlight.__main__ import main
from fedlight.benchmark.human import FOLDER
from fedlight.metrics import summarise
from tests.benchmark.tiny import SMALL, records

pytestmark = pytest.mark.usefixtures("place")


def command(further: str, references: str = "fedavg") -> list[str]:
    return shlex.split(
        f"benchmark -c configs/quickstart.yaml --references {references} --seeds 1 --output out {SMALL} {further}"
    )


def scores(path: Path) -> list[dict[str, str]]:
    with (path / "cases.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_failing_job_is_a_row_and_the_rest_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SCAFFOLD refuses Adam; FedAvg is trained, scored on both sides and with both models, and not trained again."""
    assert main(command("--algorithms scaffold --held_out site2")) == 1
    said = capsys.readouterr().out
    found = records(place / "out")
    assert {name: record["status"] for name, record in found.items()} == {
        "fedavg/site2/seed0": "ok",
        "scaffold/site2/seed0": "failed",
    }
    assert "optimizer" in found["scaffold/site2/seed0"]["reason"]
    assert found["scaffold/site2/seed0"]["reason"] in " ".join(said.split())
    check_result(place / "out", found["fedavg/site2/seed0"])
    before = (place / "out/results/fedavg/site2/seed0/job.json").stat().st_mtime_ns
    assert main(command("--held_out site2")) == 0
    assert (place / "out/results/fedavg/site2/seed0/job.json").stat().st_mtime_ns == before
    assert main([*command("--held_out site2"), "--federation.local_steps", "3"]) == 2
    assert "must be of the same settings" in capsys.readouterr().err


def check_result(output: Path, record: dict[str, Any]) -> None:
    """Three sites of six cases: the one held out has six, the two others one test case each; two models."""
    rows = scores(output / "results" / "fedavg" / "site2" / "seed0")
    counted = {
        (domain, checkpoint): sorted(
            row["site"] for row in rows if (row["domain"], row["checkpoint"]) == (domain, checkpoint)
        )
        for domain in ("held-out", "in-federation")
        for checkpoint in ("best", "last")
    }
    assert counted["held-out", "best"] == counted["held-out", "last"] == ["site2"] * 6
    assert counted["in-federation", "best"] == counted["in-federation", "last"] == ["site1", "site3"]
    assert {"dice", "iou", "miss", "hd95", "assd", "ece", "brier", "dice/disc", "dice/cup"} <= set(rows[0])
    assert (record["sites"], record["held_out"], record["rounds"]) == (["site1", "site3"], ["site2"], 2)
    assert [point["round"] for point in record["curve"]] == [1, 2]
    # up and down at two sites, and in round 2 the model once more to both, to be scored
    assert record["curve"][1]["megabytes"] == pytest.approx(2.5 * record["curve"][0]["megabytes"], abs=0.002)
    logged = [json.loads(line) for line in (output / "runs/fedavg/site2/seed0/metrics.jsonl").read_text().splitlines()]
    tested = next(row for row in logged if row["kind"] == "test" and row["split"] == "held-out")
    best = [{"dice": float(row["dice"])} for row in rows if (row["domain"], row["checkpoint"]) == ("held-out", "best")]
    assert summarise(best)["dice"] == pytest.approx(tested["dice"], abs=1e-5)


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedlight", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def processes(marker: str) -> list[int]:
    """Returns the processes that have a text in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().decode(errors="replace") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_whatever_ends_it_nothing_is_left_running_and_it_goes_on(place: Path, number: int, code: int) -> None:
    arguments = [*command("--held_out site1"), "--federation.rounds", "400"]
    output = str(place / "out" / "runs")
    arguments[arguments.index("out")] = str(place / "out")
    benchmark = start(arguments)
    log = place / "out" / "runs" / "fedavg" / "site1" / "seed0" / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count('"kind": "round"') > 3)
    benchmark.send_signal(number)
    assert benchmark.wait(timeout=60) == code
    until(lambda: not processes(output), seconds=20)
    assert not (place / "out" / "results" / "fedavg").exists()
    done = log.read_text().count('"kind": "round"')
    arguments[arguments.index("400")] = str(done + 2)
    assert main(arguments) == 0
    assert records(place / "out")["fedavg/site1/seed0"]["rounds"] == done + 2


@pytest.mark.slow
def test_a_job_whose_benchmark_died_before_it_began_ends_at_once(place: Path) -> None:
    """Its parent is another process than the one that it was started for: here number 1."""
    place.joinpath("commands").write_text(
        "fedlight fit -c configs/quickstart.yaml --federation.rounds 100000 --federation.run_folder run\n"
    )
    job = start(["script", "commands", "1"])
    assert job.wait(timeout=120) == 1


def test_a_dry_run_trains_nothing_that_stays(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--dry-run")) == 0
    said = capsys.readouterr().out
    assert "0 of 3 jobs done" in said
    assert "estimated time" in said
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("further", "sentence"),
    [
        ("--algorithms fedavgg", "Did you mean fedavg"),
        ("--held_out mars", "--held_out must be among site1, site2, site3, got mars"),
        ("--shard 3/2", "--shard must be i/n"),
        ("--seeds 0", "must be at least 1, got 0"),
        ("--federation.run_folder x", "is decided by the benchmark"),
        ("--federation.rounds", "needs a value"),
        ("--colour red", "--colour is not an option"),
        ("--known nowhere", "--known must be a folder"),
        ("--data.num_sites 1", "at least two sites"),
    ],
)
def test_a_wrong_option_is_one_sentence(capsys: pytest.CaptureFixture[str], further: str, sentence: str) -> None:
    assert main(command(further)) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("fedlight: ")
    assert said.count("\n") == 1


def write(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_second_annotator_is_scored_where_there_is_one(place: Path) -> None:
    """The first marks columns 0 to 7, the second 4 to 11 of a 16 x 16 image: 2 * 4 / (8 + 8) = 0.5."""
    for site in ("a", "b"):
        for index in range(4):
            mask = np.zeros((16, 16), np.uint8)
            mask[:, :8] = 255
            write(
                place / "data" / site / "images" / f"{index}.png",
                np.full((16, 16, 3), 30 * index + ord(site), np.uint8),
            )
            write(place / "data" / site / "masks" / f"{index}.png", mask)
    write(place / "data" / "a" / FOLDER / "1.png", np.roll(mask, 4, axis=1))
    (place / "data.yaml").write_text(
        "data: {class_path: FolderSites, init_args: {root: data, image_size: 16}}\n"
        "federation: {rounds: 1, local_steps: 1}\n"
    )
    arguments = "benchmark -c data.yaml --references fedavg --seeds 1 --output out --held_out a --model.encoder plain-8"
    assert main(shlex.split(arguments)) == 0
    rows = scores(place / "out" / "results" / "human" / "a" / "seed0")
    assert [(row["checkpoint"], row["case"], float(row["dice"])) for row in rows] == [
        ("best", "1", 0.5),
        ("last", "1", 0.5),
    ]
    assert sorted(records(place / "out")) == ["fedavg/a/seed0", "human/a/seed0"]
