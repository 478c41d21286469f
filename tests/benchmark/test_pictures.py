"""Pictures of a benchmark: of whom, from which model, whole or absent, and what is said where there can be none."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedlight.__main__ import main
from fedlight.benchmark import overlays
from fedlight.benchmark.overlays import choose
from fedlight.benchmark.plan import Arm, Job
from fedlight.preparation import ConfigError

ROOT = Path(__file__).resolve().parents[2]
ARMS = ("fedavg", "local", "pooled", "standardise", "style_align")
SETTINGS = shlex.split(
    "--references fedavg,local,pooled,standardise --algorithms style_align --held_out site2 --seeds 1 --workers 2 "
    "--data.num_sites 3 --data.cases 6 --data.image_size 16 --data.batch_size 2 --federation.rounds 2 "
    "--federation.local_steps 1 --model.encoder plain-8"
)

JOB = Job(Arm("fedavg", ()), ("site2",), 0)


def benchmark(output: Path, *further: str) -> int:
    config = str(ROOT / "configs" / "quickstart.yaml")
    return main(["benchmark", "-c", config, *SETTINGS, "--output", str(output), *further])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark without pictures."""
    output = tmp_path_factory.mktemp("benchmark")
    assert benchmark(output) == 0
    assert not (output / "overlays").exists()
    assert not (output / "styles").exists()
    return output


@pytest.fixture(scope="module")
def drawn(trained: Path) -> Path:
    """The same with pictures, which were asked for later."""
    before = stamps(trained / "runs")
    assert benchmark(trained, "--pictures") == 0
    assert stamps(trained / "runs") == before
    return trained


@pytest.fixture
def copied(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def index(output: Path, arm: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((output / "overlays" / arm / "site2" / "index.json").read_text())["cases"]
    return cases


# --- which cases -----------------------------------------------------------------------------------------------------


def rows(*dice: float | None, model: str = "global", **changes: str) -> list[dict[str, str]]:
    keys = {"domain": "held-out", "checkpoint": "best", "model": model, "site": "site2", **changes}
    return [{**keys, "case": f"{i}", "dice": "" if value is None else str(value)} for i, value in enumerate(dice)]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.5, 0.9, 0.1, 0.7, 0.3], {"best": "1", "worst": "2", "median": "0"}),
        ([0.5, 0.9, 0.1, 0.7], {"best": "1", "worst": "2", "median": "0"}),
        ([0.9, 0.1], {"best": "0", "worst": "1"}),
        ([0.9], {"best": "0"}),
        ([0.5, 0.5, 0.5], {"best": "2", "worst": "0", "median": "1"}),
        ([None, 0.2, 0.4], {"best": "2", "worst": "1"}),
    ],
)
def test_cases_are_chosen_by_dice_and_none_is_shown_twice(dice: list[float | None], expected: dict[str, str]) -> None:
    assert {case.which: case.case for case in choose(JOB, rows(*dice))} == expected


def test_the_model_is_the_one_that_speaks_for_the_arm() -> None:
    others = rows(0.9, checkpoint="last") + rows(0.8, domain="in-federation") + rows(0.1, model="site1")
    ensemble, mean = rows(0.2, model="ensemble"), rows(0.3, model="mean")
    assert [case.dice for case in choose(JOB, others + ensemble)] == [0.2]
    assert [case.dice for case in choose(JOB, others + ensemble + mean)] == [0.3]
    assert [case.dice for case in choose(JOB, others + ensemble + mean + rows(0.4))] == [0.4]
    with pytest.raises(ConfigError, match="fedavg has no model that speaks for it"):
        choose(JOB, others)


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_best_median_and_worst_are_those_of_the_results(drawn: Path, arm: str) -> None:
    """Six cases: of the ranks 0 to 5, these are 5, 2 and 0."""
    model = "ensemble" if arm == "local" else "global"
    with (drawn / "results" / arm / "site2" / "seed0" / "cases.csv").open() as file:
        scored = [
            (float(row["dice"]), row["case"])
            for row in csv.DictReader(file)
            if (row["domain"], row["checkpoint"], row["model"]) == ("held-out", "best", model)
        ]
    ranked = sorted(scored)
    found = {case["which"]: (case["dice"], case["case"]) for case in index(drawn, arm)}
    assert found == {"best": ranked[5], "median": ranked[2], "worst": ranked[0]}
    for case in index(drawn, arm):
        assert (case["seed"], case["checkpoint"], case["model"]) == (0, "best", model)
        with Image.open(drawn / "overlays" / arm / "site2" / case["file"]) as picture:
            assert picture.width == 964  # two classes, two panels and a gap


def test_styles_and_features_say_what_they_show(drawn: Path) -> None:
    pictures = {
        each["file"]: each["caption"] for each in json.loads((drawn / "styles/index.json").read_text())["pictures"]
    }
    assert set(pictures) == {"styles.png", "features.png"}
    assert all("site2 held out, seed 0" in caption for caption in pictures.values())
    shares = pictures["features.png"].partition("between sites: ")[2]
    assert [part.split()[0] for part in shares.split(", ")] == ["untrained", "fedavg", "style_align"]
    assert all(path.name in {"index.json", *pictures} for path in (drawn / "styles").iterdir())
    assert not (drawn / "styles.part").exists()


def test_the_report_shows_all_of_them(drawn: Path, tmp_path: Path) -> None:
    assert main(["report", str(drawn), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 3 * len(ARMS) + 2
    assert "ensemble of the sites' models" in page.replace("&#39;", "'")
    assert "This file contains images of patients" in page


def test_what_is_drawn_is_not_drawn_again_and_what_is_missing_is(copied: Path) -> None:
    (copied / "overlays" / "fedavg" / "site2" / "median.png").unlink()
    (copied / "styles" / "features.png").unlink()
    before = stamps(copied / "overlays" / "local")
    assert benchmark(copied, "--pictures") == 0
    assert stamps(copied / "overlays" / "local") == before
    assert (copied / "overlays" / "fedavg" / "site2" / "median.png").is_file()
    assert (copied / "styles" / "features.png").is_file()


# --- what cannot be drawn --------------------------------------------------------------------------------------------


def test_a_run_that_is_elsewhere_is_one_sentence(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark(tmp_path / "merged", "--known", str(drawn), "--pictures") == 0
    said = capsys.readouterr().out
    (sentence,) = (line for line in said.splitlines() if line.startswith("No overlays"))
    assert all(f"{arm}/site2/seed0" in sentence for arm in ARMS)
    assert "Ask for pictures where they were trained." in sentence
    assert not (tmp_path / "merged" / "overlays").exists()


def spoil_scores(run: Path, result: Path) -> None:
    """Every Dice of the results is 0.125, which no prediction has by chance."""
    with (result / "cases.csv").open() as file:
        found = list(csv.DictReader(file))
    with (result / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows({**row, "dice": "0.125"} for row in found)


def spoil_model(run: Path, result: Path) -> None:
    (run / "global.ckpt").write_bytes(b"nothing")


def spoil_config(run: Path, result: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("FedAvg", "FedForgotten"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_scores, "must be segmented as in the results"),
        (spoil_model, "global.ckpt is damaged"),
        (spoil_config, "must be the config of a run"),
    ],
)
def test_a_picture_that_would_be_wrong_is_a_sentence_and_the_rest_goes_on(
    copied: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path, Path], None], reason: str
) -> None:
    for arm in ARMS:
        shutil.rmtree(copied / "overlays" / arm)
    spoil(copied / "runs/fedavg/site2/seed0", copied / "results/fedavg/site2/seed0")
    assert benchmark(copied, "--pictures") == 0
    said = capsys.readouterr()
    (sentence,) = (line for line in said.out.splitlines() if line.startswith("No overlays"))
    assert reason in sentence
    assert "Traceback" not in said.out + said.err
    assert not (copied / "overlays" / "fedavg").exists()
    assert len(index(copied, "style_align")) == 3


def test_an_interrupted_picture_leaves_no_half_of_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied / "overlays" / "fedavg" / "site2"
    (folder / "worst.png").unlink()
    written = []

    def interrupted(path: Path, data: bytes) -> None:
        written.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(overlays, "write_bytes", interrupted)
        with pytest.raises(SystemExit, match="130"):
            benchmark(copied, "--pictures")
    assert "the same command goes on" in capsys.readouterr().err
    assert len(written) == 1
    assert not (folder / "index.json").exists()
    assert benchmark(copied, "--pictures") == 0
    assert (folder / "worst.png").is_file()
    assert len(index(copied, "fedavg")) == 3
