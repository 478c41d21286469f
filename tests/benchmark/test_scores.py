"""Results come back from disk as they were written, and what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedlight.benchmark.scores import ResultsError, load
from tests.benchmark.results import Study

SMALL = Study(effects={"fedavg": 0.0, "mixstyle": 0.02}, sites=("a", "b"), seeds=(0, 1), cases=3)
PLACE = Path("results/fedavg/a/seed0")


def change_record(folder: Path, **changes: Any) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_cases(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "cases.csv"
    path.write_text(change(path.read_text()))


def test_every_case_of_every_job_is_read(tmp_path: Path) -> None:
    """2 arms x 2 sites x 2 seeds; a job has 2 checkpoints x (3 held-out cases + 3 of its one training site)."""
    scores = load(SMALL.write(tmp_path))
    assert len(scores.jobs) == 8
    assert len(scores.cases) == 8 * 2 * (3 + 3)
    assert (scores.arms, scores.sites, scores.seeds) == (("fedavg", "mixstyle"), ("a", "b"), (0, 1))
    assert (scores.classes, scores.distance_unit) == (("vessel",), "px")
    assert list(scores.curves.groupby(["arm", "held_out", "seed"]).size().unique()) == [4]


def test_validation_dice_is_that_of_the_selected_round_and_of_the_last_evaluated_one(tmp_path: Path) -> None:
    """Round 3 was selected, with 0.7; round 4 had 0.69."""
    jobs = load(SMALL.write(tmp_path)).jobs.set_index(["arm", "held_out", "seed"])
    job = jobs.loc[("fedavg", "a", 0)]
    assert (job["val_dice"], job["last_val_dice"], job["megabytes"]) == pytest.approx((0.7, 0.69, 10.0))


def test_names_that_look_like_numbers_or_missing_values_stay_names(tmp_path: Path) -> None:
    scores = load(Study(effects={"fedavg": 0.0}, sites=("1", "NA"), seeds=(0,), cases=2).write(tmp_path))
    assert scores.sites == ("1", "NA")
    assert set(scores.cases["site"]) == {"1", "NA"}
    assert set(scores.cases["case"]) == {"000", "001"}


def test_nested_jobs_and_the_human_are_kept_apart(tmp_path: Path) -> None:
    study = Study(effects={"fedavg": 0.0}, sites=("a", "b", "c"), seeds=(0,), cases=2, nested=("fedavg",), human=True)
    scores = load(study.write(tmp_path))
    assert set(scores.nested["held_out"]) == {"a+b", "a+c", "b+c"}
    assert set(scores.cases["held_out"]) == set(scores.sites) == {"a", "b", "c"}
    assert scores.arms == ("fedavg",)
    assert int(scores.jobs["nested"].sum()) == 3
    assert set(scores.cases.loc[scores.cases["arm"] == "human", "domain"]) == {"held-out"}


def test_a_failed_job_is_a_job_without_cases(tmp_path: Path) -> None:
    folder = SMALL.write(tmp_path)
    change_record(folder / PLACE, status="failed", reason="The loss is not finite.")
    scores = load(folder)
    job = scores.jobs.iloc[0]
    assert (job["status"], job["reason"]) == ("failed", "The loss is not finite.")
    assert not len(scores.cases.query("arm == 'fedavg' and held_out == 'a' and seed == 0"))


def test_a_job_that_has_not_ended_is_missing(tmp_path: Path) -> None:
    folder = SMALL.write(tmp_path)
    (folder / PLACE / "job.json").unlink()
    assert len(load(folder).jobs) == 7


def test_all_jobs_may_have_failed(tmp_path: Path) -> None:
    study = Study(effects={"fedavg": 0.0}, sites=("a",), seeds=(0,), failed=[("fedavg", "a", 0)])
    scores = load(study.write(tmp_path))
    assert len(scores.cases) == 0
    assert scores.arms == ("fedavg",)


def test_several_folders_are_read_as_their_union(tmp_path: Path) -> None:
    whole, half = SMALL.write(tmp_path / "whole"), tmp_path / "half"
    (half / "results").mkdir(parents=True)
    shutil.move(whole / "results" / "mixstyle", half / "results" / "mixstyle")
    scores = load([whole, half / "results"])
    assert len(scores.jobs) == 8
    assert scores.cases.equals(load(SMALL.write(tmp_path / "again")).cases)


def test_the_same_result_may_be_in_two_folders_though_a_clock_said_otherwise(tmp_path: Path) -> None:
    first, second = SMALL.write(tmp_path / "1"), SMALL.write(tmp_path / "2")
    change_record(second / PLACE, seconds=1.0)
    assert len(load([first, second]).jobs) == 8


@pytest.mark.parametrize("what", ["cases", "status", "fingerprint"])
def test_two_different_results_of_one_job_are_refused(tmp_path: Path, what: str) -> None:
    first, second = SMALL.write(tmp_path / "1"), SMALL.write(tmp_path / "2")
    if what == "cases":
        change_cases(second / PLACE, lambda text: text.replace(",0.05000,0.08000", ",0.05001,0.08000"))
    else:
        change_record(second / PLACE, **{what: "failed"})
    with pytest.raises(ResultsError, match=r"a job must have one result, got different ones in .*1/results.*2/results"):
        load([first, second])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("dice,", "score,", 1), "have the columns .* dice, got no dice"),
        (lambda text: text.replace(",000,", ",000,1.2,", 1), "be a table"),
        (
            lambda text: text.replace("held-out,best,global,a,000,0.", "held-out,best,global,a,000,7.", 1),
            "dice in .0, 1.",
        ),
        (lambda text: text.replace("a,000,0.", "a,000,x0.", 1), "a number as dice, got x0"),
        (lambda text: text.replace("a,001,", "a,000,", 1), "one row a case, checkpoint and model, got two of 000"),
        (lambda text: text.replace("in-federation", "held-out"), "as held-out exactly where .*, got b"),
        (lambda text: text.replace("held-out,best,global,a", "in-federation,best,global,a", 1), "got a"),
        (lambda text: text.replace(",best,", ",first,", 1), "checkpoint of best or last, got first"),
        (lambda text: text.replace(",global,", ",,", 1), "name domain, .* in every row"),
        (lambda text: text.split("\n", 1)[0] + "\n", "cases of every held-out site, got none of a"),
        (lambda text: text.replace(",0.08000", ",inf", 1), "brier finite and not negative"),
        (lambda text: "", "have the columns"),
    ],
)
def test_damaged_cases_are_refused_with_their_file(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    folder = SMALL.write(tmp_path)
    change_cases(folder / PLACE, change)
    with pytest.raises(ResultsError, match=f"fedavg/a/seed0/cases.csv must .*{message}"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 1, got 2"),
        ({"seed": 7}, "the job that its folder names, got fedavg/a/seed7"),
        ({"arm": None}, "must have arm, held_out, seed, status of a job, got arm None"),
        ({"held_out": ["a", "a"]}, "got held_out"),
        ({"status": "fine"}, "got status 'fine'"),
    ],
)
def test_a_record_that_is_not_that_of_its_folder_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = SMALL.write(tmp_path)
    change_record(folder / PLACE, **changes)
    with pytest.raises(ResultsError, match=message):
        load(folder)


def test_a_torn_record_and_a_job_without_its_cases_are_refused(tmp_path: Path) -> None:
    folder = SMALL.write(tmp_path)
    (folder / PLACE / "cases.csv").unlink()
    with pytest.raises(ResultsError, match=r"cases.csv must be readable"):
        load(folder)
    (folder / PLACE / "job.json").write_text('{"format": 1,')
    with pytest.raises(ResultsError, match=r"job.json must be JSON"):
        load(folder)


@pytest.mark.parametrize("changes", [{"distance_unit": "mm"}, {"classes": ["background", "disc"]}])
def test_results_of_two_data_sets_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = SMALL.write(tmp_path)
    change_record(folder / PLACE, **changes)
    with pytest.raises(ResultsError, match=f"results must agree on {next(iter(changes))}"):
        load(folder)


def test_arms_that_were_scored_on_different_cases_are_refused(tmp_path: Path) -> None:
    folder = SMALL.write(tmp_path)
    change_cases(folder / PLACE, lambda text: text.replace(",a,000,", ",a,other,"))
    with pytest.raises(ResultsError, match="the cases of a must be the same in all results"):
        load(folder)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"must hold results/ARM/SITE/seedK/job.json, got none in"):
        load(tmp_path)


@pytest.mark.slow  # starts a process
def test_results_are_read_without_torch() -> None:
    program = (
        "import sys; from fedlight.benchmark import scores, tables; assert not {'torch', 'lightning'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
