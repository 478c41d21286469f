"""The command: what it writes and says, and what it says instead."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path

import pytest

import fedlight
import fedlight.benchmark
from fedlight.__main__ import main
from fedlight.benchmark.report.report import LIST
from fedlight.palette import OUTLINES
from fedlight.tasks.outlines import BOTH, MASK, PREDICTION
from tests.benchmark.report.conftest import Written, with_pictures
from tests.benchmark.results import Study

SMALL = {"fedavg": 0.0, "mixstyle": 0.02}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the figures, which take most of the time."""
    monkeypatch.setattr("fedlight.benchmark.report.report.draw", lambda findings: {})


@pytest.mark.usefixtures("undrawn")
def test_a_report_lies_beside_its_results_unless_told_otherwise(tmp_path: Path) -> None:
    study = Study(effects=SMALL, sites=("a", "b"), seeds=(0,), cases=3).write(tmp_path)
    assert main(["report", str(study), "--title", "Two arms & one question"]) == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Two arms &amp; one question</h1>" in page


@pytest.mark.usefixtures("undrawn")
def test_the_other_checkpoint_and_reference_are_said(tmp_path: Path) -> None:
    study = Study(effects=SMALL, sites=("a", "b"), seeds=(0,), cases=3).write(tmp_path)
    assert (
        main(["report", str(study), "--checkpoint", "last", "--reference", "mixstyle", "--output", str(tmp_path)]) == 0
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "model of the last round" in page
    assert "Differences to mixstyle" in page


def test_equal_results_give_an_equal_page(study: Path, written: Written, tmp_path: Path) -> None:
    assert main(["report", str(study), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == written.text("report.html")


@pytest.mark.slow
def test_four_hundred_jobs_make_a_page_of_less_than_five_megabytes_in_half_a_minute(tmp_path: Path) -> None:
    effects = {"fedavg": 0.0, **{f"method_{index:02d}": 0.002 * index for index in range(19)}}
    study = Study(effects=effects, seeds=range(5), cases=10).write(tmp_path)
    begun = time.process_time()
    assert main(["report", str(study), "--output", str(tmp_path)]) == 0
    assert time.process_time() - begun < 30
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere"),
        (["{study}", "--reference", "fedavgg"], "fedavgg"),
        ([], "FOLDER"),
        (["{study}", "--checkpoint", "first"], "checkpoint"),
    ],
)
def test_a_mistake_is_one_sentence(
    study: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    filled = [argument.format(study=study) for argument in arguments]
    assert main(["report", *filled, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fedlight: ")
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["pandas", "jinja2", "matplotlib"])
def test_a_missing_extra_is_one_sentence(
    name: str, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fedlight, "benchmark", fedlight.benchmark)  # what is imported anew goes with the test
    for module in [module for module in sys.modules if module.startswith("fedlight.benchmark")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["report", str(study), "--output", str(tmp_path)]) == 2
    assert "pip install fedlight[report]" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_pictures_of_patients_are_shown_with_a_warning_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(effects=SMALL, sites=("drive", "hrf"), seeds=(0,), cases=3).write(tmp_path / "study")
    with_pictures(study)
    assert main(["report", str(study / "results"), "--output", str(tmp_path / "shown")]) == 0
    assert "must stay with their owner" in capsys.readouterr().out
    page = (tmp_path / "shown" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 2
    assert "This file contains images of patients" in page
    assert "worst: 021, Dice 0.412, seed 0" in page
    assert main(["report", str(study), "--no_pictures", "--output", str(tmp_path / "bare")]) == 0
    page = (tmp_path / "bare" / "report.html").read_text(encoding="utf-8")
    assert "<img " not in page
    assert "contains images of patients" not in page


def test_an_index_that_names_no_image_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Study(effects=SMALL, sites=("drive", "hrf"), seeds=(0,), cases=3).write(tmp_path)
    with_pictures(study)
    (study / "overlays" / "fedavg" / "drive" / "a.png").unlink()
    assert main(["report", str(study)]) == 2
    assert "index.json must list images that are there" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_overlays_stand_by_site_and_say_whose_lines_they_are(tmp_path: Path) -> None:
    study = Study(effects=SMALL, sites=("drive", "hrf"), seeds=(0,), cases=3).write(tmp_path)
    with_pictures(study)
    for arm, site in (("mixstyle", "drive"), ("fedavg", "hrf")):
        shutil.copytree(study / "overlays" / "fedavg" / "drive", study / "overlays" / arm / site)
    assert main(["report", str(study)]) == 0
    page = (study / "report" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<summary>(\w+, \d arms?)</summary>|<h4>(\w+)</h4>", page) == [
        ("drive, 2 arms", ""),
        ("", "fedavg"),
        ("", "mixstyle"),
        ("hrf, 1 arm", ""),
        ("", "fedavg"),
    ]
    assert "Blue is the outline of the mask" in page
    for name, colour in (("mask", MASK), ("prediction", PREDICTION), ("both", BOTH)):
        assert OUTLINES[name] == "#{:02x}{:02x}{:02x}".format(*colour)
        assert f"--line: {OUTLINES[name]}" in page


def test_a_report_removes_what_an_earlier_one_wrote_and_it_does_not_and_nothing_else(tmp_path: Path) -> None:
    """With two classes there is a table of classes, with one there is none; the owner's files and wishes stay."""
    output = tmp_path / "report"
    for name, classes in (("two", ("disc", "cup")), ("one", ("vessel",))):
        study = Study(effects=SMALL, sites=("a", "b"), seeds=(0,), cases=3, classes=classes).write(tmp_path / name)
        assert main(["report", str(study), "--output", str(output)]) == 0
        if name == "two":
            (output / "tables" / "mine.tex").write_text("kept")
            (tmp_path / "victim.tex").write_text("kept")
            assert (output / "tables" / "classes.tex").is_file()
            with (output / LIST).open("a") as file:
                file.write("../victim.tex\ntables/../../victim.tex\n")
    assert not (output / "tables" / "classes.tex").exists()
    assert (output / "tables" / "headline.tex").is_file()
    assert (output / "tables" / "mine.tex").is_file()
    assert (tmp_path / "victim.tex").is_file()
    listed = (output / LIST).read_text().splitlines()
    there = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert there == {*listed, LIST, "tables/mine.tex"}
