"""Where the time goes: sections inside each other add up, and a run is not changed by being timed."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from fedlight.federation import Federation
from fedlight.profile import lines
from fedlight.state import digest
from fedlight.stopwatch import Stopwatch, TrainerSections, measuring, section
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]


def test_the_time_of_a_section_is_that_without_what_lies_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entered at 0, the inner one from 1 to 4 with another from 2 to 2.5 inside, left at 10: 7, 2.5 and 0.5."""
    moments = iter([0.0, 1.0, 2.0, 2.5, 4.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    with measuring() as watch, section("a"), section("b"), section("c"):
        pass
    assert watch.seconds == {"c": 0.5, "b": 2.5, "a": 7.0}
    assert watch.total == 10.0


def test_a_section_that_fails_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with measuring() as watch:
        with pytest.raises(ZeroDivisionError), section("a"):
            raise ZeroDivisionError
        with section("b"):
            pass
    assert watch.calls == {"a": 1, "b": 1}


def test_nothing_is_timed_while_nobody_asks() -> None:
    with measuring() as watch:
        pass
    with section("a"):
        pass
    assert watch.calls == {}


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("[Strategy]SingleDeviceStrategy.backward", "backward pass"),
        ("[Strategy]SingleDeviceStrategy.training_step", "forward pass, loss and plugins"),
        ("[_TrainingEpochLoop].train_dataloader_next", "load batches"),
        ("[LightningModule]SegmentationTask.optimizer_step", "optimizer"),
        ("[LightningModule]SegmentationTask.training_step", None),
        ("[Callback]MixStyle.on_train_batch_start", None),
        ("run_training_epoch", None),
    ],
)
def test_what_a_trainer_tells_has_a_section(action: str, name: str | None) -> None:
    with measuring() as watch, TrainerSections().profile(action):
        pass
    assert list(watch.seconds) == [name] * (name is not None)


def test_lines_are_sorted_and_add_up() -> None:
    watch = Stopwatch({"short": 1.0, "long": 3.0}, {"short": 5, "long": 2})
    found = lines(watch, rounds=2)
    assert [(line.section, line.calls, line.seconds_a_round, line.share) for line in found] == [
        ("long", 2, 1.5, 0.75),
        ("short", 5, 0.5, 0.25),
    ]


def test_a_timed_run_has_the_same_bits_and_says_where_its_time_went(
    federate: Federate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = federate(rounds=2).fit(small_task(), small_sites())
    begun = time.perf_counter()
    timed = federate(rounds=2, run_folder=str(tmp_path / "timed")).fit(small_task(), small_sites(), profile=True)
    took = time.perf_counter() - begun
    models = [torch.load(run.last, weights_only=True)["state_dict"] for run in (plain, timed)]
    assert digest(models[0]) == digest(models[1])
    with (timed.path / "profile.csv").open() as file:
        rows = list(csv.DictReader(file))
    seconds = [float(row["seconds"]) for row in rows]
    assert all(before >= after for before, after in pairwise(seconds))
    assert 0 < sum(seconds) <= took
    assert {"backward pass", "optimizer", "load batches", "aggregation", "checkpoint", "what sites keep"} <= {
        row["section"] for row in rows
    }
    assert (timed.path / "profile.png").is_file()
    assert "where the time went" in capsys.readouterr().out
    assert not (plain.path / "profile.csv").exists()
