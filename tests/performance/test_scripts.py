"""The scripts run and compare like with like; how long anything takes is not tested."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from fedlight.__main__ import main as fedlight
from fedlight.client import Client
from tests.performance import (
    at_test_time,
    many_sites,
    orchestration,
    plugin_cost,
    server_overhead,
    startup,
    straggler,
    streaming_mean,
    workers,
)

SMALL = ["--encoder", "plain-8", "--steps", "1", "--image_size", "16"]
TINY = ["--encoder", "plain-8", "--sites", "2", "--steps", "2", "--rounds", "2", "--image_size", "16"]


def test_orchestration_trains_the_same_model_on_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    orchestration.main(TINY)
    printed = capsys.readouterr().out
    assert re.search(r"ratio \d+\.\d+ \(quartiles", printed)
    assert "same parameters bit for bit" in printed


def test_orchestration_notices_two_different_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestration.PlainLoop, "train", lambda loop, site, number: None)
    with pytest.raises(AssertionError, match="different parameters"):
        orchestration.main(TINY)


@pytest.mark.slow  # starts two processes that import torch
def test_many_sites_prints_ratios_of_time_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    many_sites.main(["--many", "4", "--few", "2", "--cohort", "2", "--rounds", "2", *SMALL])
    printed = capsys.readouterr().out
    assert re.search(
        r"processor time of a round: ratio \d+\.\d+ .*\npeak memory: ratio \d+\.\d+ \(\d+ MB and \d+ MB\)", printed
    )


@pytest.mark.slow  # starts a process that imports torch
def test_workers_prints_what_they_gain(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    workers.main(["--workers", "1", "--sites", "2", "--rounds", "2", *SMALL])
    assert re.search(r"in process / workers: ratio \d+\.\d+", capsys.readouterr().out)
    assert torch.get_num_threads() == before


@pytest.mark.slow  # starts a process that imports torch
def test_straggler_says_how_long_a_version_takes(capsys: pytest.CaptureFixture[str]) -> None:
    straggler.main(["--sites", "1", "--steps", "1", "--sleep", "0.01", "--versions", "1", "--only", "Buffered"])
    printed = capsys.readouterr().out
    assert re.fullmatch(r"Buffered: \d+\.\d+ s a version; the slow site is in 100% of them\n", printed)


@pytest.mark.slow  # starts two processes that import torch
def test_startup_sees_the_first_batch(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["--repetitions", "1", "--data.image_size", "16", "--data.cases", "8"])
    printed = capsys.readouterr().out
    assert re.search(r"ratio \d+\.\d+\nbeyond the imports -?\d+\.\d+ s", printed)


@pytest.mark.slow  # trains a few steps of the quickstart's network
def test_plugin_cost_takes_steps_in_turn_and_prints_ratios(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rounds of one step, the first of which does not count; SCAFFOLD needs SGD, and so does its FedAvg."""
    monkeypatch.setattr(plugin_cost, "STEPS", 1)
    plugin_cost.main(["--only", "MixStyle", "Scaffold", "Krum", "--minutes", "0"])
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert header == ["name", "per", "ratio", "first_quartile", "third_quartile", "steps", "server_ms"]
    assert {row[0]: (row[1], row[5]) for row in rows} == {
        "MixStyle": ("step", "2"),
        "Scaffold": ("round", "2"),
        "Krum": ("round", "2"),
    }
    assert all(0.3 < float(row[2]) < 3 for row in rows)


def test_plugin_cost_notices_a_client_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_cost, "STEPS", 1)
    monkeypatch.setattr(Client, "fit", lambda client, broadcast: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        plugin_cost.main(["--only", "MixStyle", "--minutes", "0"])


@pytest.mark.parametrize("words", ["times FedAvg's time", "times\nFedAvg's time", "\ntimes FedAvg's\ntime"])
def test_a_measured_number_replaces_the_one_in_a_card(words: str) -> None:
    card = f"Cost: two passes, 1.00 {words}; with three of them 2 {words}."
    assert plugin_cost.with_number(card, 1.078) == card.replace("1.00", "1.08")


def test_server_overhead_prints_a_round_beside_its_yardsticks(capsys: pytest.CaptureFixture[str]) -> None:
    server_overhead.main(["--encoder", "plain-8", "--rounds", "2"])
    printed = capsys.readouterr().out
    assert re.search(r"a round of 4 sites, 0 MB: \d+\.\d+ s wall, \d+\.\d+ s processor time", printed)
    assert re.search(r"copying 0 MB takes \d+\.\d+ s, writing them \d+\.\d+ s", printed)


def test_streaming_mean_needs_a_state_in_double_precision(capsys: pytest.CaptureFixture[str]) -> None:
    streaming_mean.main(["--megabytes", "1", "--repetitions", "2"])
    printed = capsys.readouterr().out
    assert re.search(r"ratio \d+\.\d+ \(medians of 2\)", printed)
    assert "memory beside the updates: 2.0 times a model" in printed


def test_at_test_time_scores_a_run_with_every_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that shared amplitudes has all four columns, one that shared nothing two; neither folder changes."""
    configs = Path(__file__).parents[2] / "configs"
    small = "--data.image_size 16 --data.cases 7 --data.batch_size 2 --model.encoder plain-8 --trainer.accelerator cpu"
    few = [*small.split(), "--federation.rounds", "2", "--federation.local_steps", "3"]
    for arm in ("fedavg", "amplitude_mix"):
        config = ["-c", str(configs / "quickstart.yaml"), "-c", str(configs / "algorithms" / f"{arm}.yaml"), *few]
        run = tmp_path / arm / "site5" / "seed0"
        assert fedlight(["fit", *config, "--federation.run_folder", str(run)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    at_test_time.main([str(tmp_path), "--cases", "3", "--tta", "flips"])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["arm"], row["held_out"], row["cases"]) for row in rows] == [
        ("amplitude_mix", "site5", "3"),
        ("fedavg", "site5", "3"),
    ]
    assert all(rows[0][help] for help in at_test_time.HELPS)
    assert [help for help in at_test_time.HELPS if rows[1][help]] == ["plain", "tta"]
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
