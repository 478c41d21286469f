"""``fedlight runs``: what a table says about run folders, and what differs between two."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fedlight.__main__ import main
from fedlight.run_lock import hold, is_held
from fedlight.tracking import StatusTracker
from fedlight.update import Evaluation
from fedlight.watching.record import find, read_record
from tests.watching.folders import CONFIG, begin, info, record, whole


def test_a_run_is_known_from_its_folder(tmp_path: Path) -> None:
    """Dice 0.5 and 0.75: mean 0.625. Bytes of a round: 200 + 100 + 700 000, which is 0.7003 MB."""
    whole(tmp_path / "run")
    known = read_record(tmp_path / "run")
    assert (known.status, known.method, known.sites, known.held_out) == ("finished", "FedAvg", ["a", "b"], ["c"])
    assert (known.rounds, known.planned, known.best_round) == (4, 4, 2)
    assert (known.val_dice, known.held_out_dice, known.site_dice) == (0.625, 0.25, {"a": 0.5, "b": 0.75})
    assert known.megabytes == pytest.approx(0.7003)


def test_the_status_comes_from_the_lock_and_from_how_the_run_ended(tmp_path: Path) -> None:
    for status in ("failed", "interrupted", "finished"):
        begin(tmp_path / status).finish(status, {})
        assert read_record(tmp_path / status).status == status
    begin(tmp_path / "killed")
    assert read_record(tmp_path / "killed").status == "interrupted"
    with hold(tmp_path / "killed"):
        assert read_record(tmp_path / "killed").status == "running"


def test_folders_of_earlier_versions_tell_their_status_by_their_rounds(tmp_path: Path) -> None:
    whole(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    assert read_record(tmp_path / "run").status == "finished"
    tracker = begin(tmp_path / "short")
    tracker.on_round(record(1))
    (tmp_path / "short" / "run.json").unlink()
    known = read_record(tmp_path / "short")
    assert (known.status, known.rounds, known.method, known.held_out) == ("interrupted", 1, "FedAvg", ["c"])


def test_scoring_a_run_does_not_change_how_it_ended(tmp_path: Path) -> None:
    begin(tmp_path / "run").finish("interrupted", {})
    tracker = StatusTracker()
    tracker.start(replace(info(tmp_path / "run"), scoring="selected"))
    tracker.finish("finished", {})
    assert read_record(tmp_path / "run").status == "interrupted"


def test_own_models_at_the_held_out_site_are_spoken_for_by_their_ensemble(tmp_path: Path) -> None:
    tracker = begin(tmp_path / "run")
    tracker.on_round(record(1, selected=True))
    for model, dice in (("a", 0.1), ("b", 0.2), ("ensemble", 0.3)):
        tracker.on_test("held-out", model, [Evaluation("c", 1, 20, {"dice": dice})], ())
    assert read_record(tmp_path / "run").held_out_dice == 0.3


def test_runs_are_found_at_any_depth_but_not_inside_runs(tmp_path: Path) -> None:
    for name in ("a", "bench/fedavg/site1", "bench/fedavg/site1/inner"):
        whole(tmp_path / name)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in find(tmp_path)) == ["a", "bench/fedavg/site1"]
    assert list(find(tmp_path / "a")) == [tmp_path / "a"]


def test_the_table_fits_eighty_columns_and_names_damaged_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    whole(tmp_path / "runs" / "a_run_with_a_long_name")
    whole(tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "metrics.jsonl").write_text("no json\n{}\n")
    whole(tmp_path / "runs" / "bare")
    (tmp_path / "runs" / "bare" / "config.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert text.count("damaged") == 3  # two rows, and one of the sentences
    assert "0.625 (2)" in text
    assert "Line 1 of runs/broken/metrics.jsonl is damaged" in " ".join(text.split())
    assert "runs/bare/config.yaml is missing" in text


def test_a_script_gets_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole(tmp_path / "a")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["path"], row["val_dice"], row["status"]) == (str(tmp_path / "a"), 0.625, "finished")


def test_a_comparison_shows_what_differs_by_the_names_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(CONFIG)
    other["federation"]["aggregator"] = {"class_path": "x.FedAvgM", "init_args": {"momentum": 0.5}}
    other["federation"]["run_folder"] = "elsewhere"
    whole(tmp_path / "a")
    whole(tmp_path / "b", other)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    assert main(["runs", "--compare", *paths, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"] == {
        "federation.aggregator": ["FedAvg", "FedAvgM"],
        "federation.aggregator.momentum": [None, 0.5],
    }
    assert main(["runs", "--compare", *paths]) == 0
    text = capsys.readouterr().out
    assert "federation.aggregator.momentum" in text
    assert "0.625 (2)" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runs", "nowhere"], "folder must be one that exists, got nowhere."),
        (["runs", "--compare", "here/ran"], "--compare must name run folders, got here/ran. Did you mean here/run?"),
        (["runs", "--cmpare", "x"], "See fedlight runs --help."),
        (["watch"], "the following arguments are required: run."),
        (["watch", "here/run/run.json"], "run must be the folder of a run"),
        (["watch", "here/run", "--pause", "0"], "--pause must be above 0 seconds, got 0. Use 1."),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    whole(Path("here/run"))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_looking_at_runs_needs_no_torch(tmp_path: Path) -> None:
    whole(tmp_path / "run")
    program = (
        "import sys; from fedlight.__main__ import main;"
        f"main(['runs', {str(tmp_path)!r}]); main(['runs', '--compare', {str(tmp_path / 'run')!r}]);"
        f"main(['watch', {str(tmp_path / 'run')!r}]);"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        assert is_held(tmp_path / "run")
        with pytest.raises(BlockingIOError, match="is in use by another process"), hold(tmp_path / "run"):
            pass
    assert not is_held(tmp_path / "run")
    assert not is_held(tmp_path / "nowhere")
    with hold(tmp_path / "run"):
        pass
