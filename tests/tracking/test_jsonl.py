"""The run folder's record: complete, exact, and the same after a crash."""

from __future__ import annotations

import copy
import csv
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fedlight.tracking import ConsoleTracker, JsonlTracker, RunInfo, Tracker, WandbTracker, read_rows
from fedlight.tracking.jsonl import _append
from fedlight.update import Evaluation, SiteFailure

if TYPE_CHECKING:
    from tests.tracking.conftest import MakeRecord


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def recorded(run: RunInfo) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.folder.iterdir())}


def record_all(run: RunInfo, make: MakeRecord, last: int) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    for round in range(run.start_round + 1, last + 1):
        tracker.on_round(make(round))


def test_a_round_is_on_disk_when_on_round_returns(run: RunInfo, record: MakeRecord) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    tracker.on_round(record(1, failures=(SiteFailure("b", 1, "evaluate", "late", "no answer in 5 s"),)))
    assert [(row["kind"], row.get("site")) for row in read_rows(run.folder)] == [
        ("fit", "a"),
        ("fit", "b"),
        ("val", "a"),
        ("val", "b"),
        ("failure", "b"),
        ("round", None),
    ]


def test_the_row_of_a_round_sums_bytes_and_names_the_worst_site(run: RunInfo, record: MakeRecord) -> None:
    """Bytes: 100 + 100 down, 60 + 40 up. Dice 0.5 and 0.75: mean 0.625, worst 0.5 at "a"."""
    record_all(run, record, 1)
    assert read_rows(run.folder)[-1] == {
        "round": 1,
        "kind": "round",
        "cohort": ["a", "b"],
        "failures": 0,
        "selected": False,
        "bytes_down": 200,
        "bytes_up": 100,
        "bytes_evaluate": 0,
        "mean_dice": 0.625,
        "worst_dice": 0.5,
        "worst_site": "a",
        "seconds_fit": 3.0,
        "seconds_round": 3.5,
    }


@pytest.mark.parametrize("value", [0.1 + 0.2, 1 / 3, 1e-17, 1e300])
def test_floats_come_back_bit_for_bit(run: RunInfo, record: MakeRecord, value: float) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    tracker.on_round(record(1, metrics={"norm": value}))
    assert read_rows(run.folder)[0]["norm"] == value
    (line,) = [row for row in csv_rows(run.folder / "metrics.csv") if row["name"] == "norm"]
    assert float(line["value"]) == value
    assert (line["round"], line["site"], line["kind"]) == ("1", "a", "fit")


def test_undefined_numbers_are_null_and_empty(run: RunInfo, record: MakeRecord) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    tracker.on_round(record(1, metrics={"norm": math.nan, "ratio": math.inf}))
    text = (run.folder / "metrics.jsonl").read_text() + (run.folder / "metrics.csv").read_text()
    assert "NaN" not in text
    assert "nan" not in text
    assert "inf" not in text.lower()
    row = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert row["norm"] is None
    assert row["ratio"] is None


def test_a_metric_that_is_named_like_a_column_loses_neither(run: RunInfo, record: MakeRecord) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    tracker.on_round(record(1, metrics={"site": 3.0}))
    row = read_rows(run.folder)[0]
    assert (row["site"], row["metric/site"]) == ("a", 3.0)


def test_a_run_that_was_torn_anywhere_ends_like_an_uninterrupted_one(run: RunInfo, record: MakeRecord) -> None:
    """Rounds 2 to 4 are trained again from the state after round 1, wherever the writing of round 3 stopped."""
    record_all(run, record, 4)
    whole = recorded(run)
    lines = whole["metrics.jsonl"].splitlines(keepends=True)
    start = len(b"".join(line for line in lines if json.loads(line)["round"] < 3))
    for cut in range(start, start + len(lines[-5]) * 2, 11):
        (run.folder / "metrics.jsonl").write_bytes(whole["metrics.jsonl"][:cut])
        (run.folder / "metrics.csv").write_bytes(whole["metrics.csv"][: cut // 2])
        record_all(replace(run, start_round=1), record, 4)
        assert recorded(run) == whole


def test_a_new_run_in_an_old_folder_starts_its_files_anew(run: RunInfo, record: MakeRecord) -> None:
    record_all(run, record, 4)
    record_all(run, record, 1)
    assert {row["round"] for row in read_rows(run.folder)} == {1}


def test_testing_a_run_removes_nothing_and_testing_it_again_changes_nothing(run: RunInfo, record: MakeRecord) -> None:
    record_all(run, record, 4)
    trained = read_rows(run.folder)
    scores = [Evaluation("c", 2, 1, {"dice": 0.25})]  # of round 2, the selected one
    cases = [{"site": "c", "case": "01", "dice": 0.25}]
    states = []
    for _ in range(2):
        tracker = JsonlTracker()
        tracker.start(replace(run, start_round=2))
        tracker.on_test("held-out", "global", scores, cases)
        states.append(recorded(run))
    assert states[0] == states[1]
    test = {"round": 2, "kind": "test", "split": "held-out", "model": "global", "site": "c", "cases": 1, "dice": 0.25}
    assert read_rows(run.folder) == [*trained, test]
    last = csv_rows(run.folder / "metrics.csv")[-1]
    assert (last["split"], last["model"], last["name"], last["value"]) == ("held-out", "global", "dice", "0.25")


def test_the_cases_of_every_model_stand_in_one_file(run: RunInfo) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    for model, dice in (("a", 0.25), ("b", 0.5), ("a", 0.75)):
        rows: list[dict[str, Any]] = [{"site": "c", "case": "01", "dice": dice, "hd95": math.nan}]
        tracker.on_test("held-out", model, [Evaluation("c", 4, 1, {"dice": dice})], rows)
    assert csv_rows(run.folder / "held_out_cases.csv") == [
        {"model": "b", "site": "c", "case": "01", "dice": "0.5", "hd95": ""},
        {"model": "a", "site": "c", "case": "01", "dice": "0.75", "hd95": ""},
    ]


def test_a_site_that_keeps_its_cases_to_itself_leaves_no_case_file(run: RunInfo) -> None:
    tracker = JsonlTracker()
    tracker.start(run)
    tracker.on_test("test", "global", [Evaluation("a", 4, 9, {"dice": 0.5})], ())
    assert sorted(recorded(run)) == ["metrics.csv", "metrics.jsonl"]


def test_a_damaged_line_is_named_and_kept(run: RunInfo, record: MakeRecord) -> None:
    record_all(run, record, 1)
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{damaged\n", *lines[1:]]))
    with pytest.raises(ValueError, match=r"Line 2 of .*metrics\.jsonl is damaged.*move it away"):
        JsonlTracker().start(run)
    assert "{damaged" in path.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_with_the_name_of_the_file() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        _append(Path("/dev/full"), "a row\n", to_disk=True)


def test_a_round_before_the_start_says_what_is_missing(record: MakeRecord) -> None:
    with pytest.raises(RuntimeError, match=r"Call start\(run\)"):
        JsonlTracker().on_round(record(1))


@pytest.mark.parametrize("tracker", [JsonlTracker(), ConsoleTracker(), WandbTracker()], ids=lambda t: type(t).__name__)
def test_a_tracker_can_be_copied_and_sent_before_it_starts(tracker: Tracker) -> None:
    assert type(copy.deepcopy(pickle.loads(pickle.dumps(tracker)))) is type(tracker)
