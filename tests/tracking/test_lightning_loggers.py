"""TensorBoard and MLflow over Lightning's loggers: numbers arrive by round, and a missing package is a sentence."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from fedlight.tracking import Fanout, MLflowTracker, RunInfo, TensorBoardTracker, Tracker, WandbTracker
from fedlight.tracking.lightning_loggers import LoggerTracker
from fedlight.update import Evaluation

if TYPE_CHECKING:
    from tests.tracking.conftest import MakeRecord


def whole(tracker: Tracker, run: RunInfo, record: MakeRecord) -> None:
    tracker.start(run)
    for round in (1, 2):
        tracker.on_round(record(round, selected=round == 2))
    tracker.on_test("held-out", "global", [Evaluation("c", 2, 20, {"dice": 0.25})], ())
    tracker.finish("finished", {"round": 2, "val_dice": 0.625, "selected_round": None})


class Csv(LoggerTracker):
    """Over the one logger of Lightning's that needs no package."""

    def make_logger(self, run: RunInfo) -> Any:
        return CSVLogger(run.folder, name="", version="csv")


def test_numbers_arrive_by_round_under_the_names_of_wandb(run: RunInfo, record: MakeRecord) -> None:
    """Dice 0.5 and 0.75: mean 0.625."""
    whole(Csv(), run, record)
    header, *lines = [line.split(",") for line in (run.folder / "csv" / "metrics.csv").read_text().splitlines()]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["mean/val_dice"] for row in rows if row["mean/val_dice"]] == ["0.625", "0.625"]
    assert [row["held_out/dice"] for row in rows if row["held_out/dice"]] == ["0.25"]
    assert {row["step"] for row in rows} == {"1", "2"}


def test_tensorboard_gets_event_files_in_the_run_folder(run: RunInfo, record: MakeRecord) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole(TensorBoardTracker(), run, record)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("mean/val_dice")] == [(1, 0.625), (2, 0.625)]
    assert events.Scalars("held_out/dice")[0].value == 0.25


@pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
def test_a_resumed_run_stays_one_mlflow_run(run: RunInfo, record: MakeRecord) -> None:
    run.folder.mkdir()
    whole(MLflowTracker(), run, record)
    known = (run.folder / "mlflow_id").read_text()
    whole(MLflowTracker(), replace(run, start_round=2), record)
    assert (run.folder / "mlflow_id").read_text() == known


@pytest.mark.parametrize(
    ("tracker", "module"), [(TensorBoardTracker(), "tensorboard"), (MLflowTracker(), "mlflow")], ids=["tb", "mlflow"]
)
def test_a_missing_package_is_one_warning_and_the_run_goes_on(
    tracker: Tracker,
    module: str,
    run: RunInfo,
    record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("fedlight.tracking.packages.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        whole(Fanout(optional=[tracker]), run, record)
    assert len(caplog.records) == 1
    assert f"needs {module}, which is not installed. Get it with: pip install 'fedlight[{module}]'." in caplog.text


def test_every_tracker_says_before_a_run_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlight.tracking.packages.find_spec", lambda name: None)
    for tracker, install in (
        (TensorBoardTracker(), "'fedlight[tensorboard]'"),
        (MLflowTracker(), "'fedlight[mlflow]'"),
        (WandbTracker(), "wandb"),
    ):
        with pytest.raises(ModuleNotFoundError, match=re.escape(f"pip install {install}.")):
            tracker.check()
