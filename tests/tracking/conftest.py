"""A federation of two sites, "a" and "b", with institution "c" held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedlight.tracking import RoundRecord, RunInfo, SiteRound
from fedlight.update import Evaluation, SiteFailure

MakeRecord = Callable[..., RoundRecord]


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    return RunInfo(
        name="two-sites",
        folder=tmp_path / "run",
        config={"seed": 1},
        sites=("a", "b"),
        held_out=("c",),
        classes=("background", "vessel"),
        rounds=4,
        local_steps={"a": 10, "b": 12},
        num_parameters=500_000,
        num_samples={"a": 14, "b": 20},
        distance_unit="mm",
    )


@pytest.fixture
def record() -> MakeRecord:
    """Builds a round in which "a" reaches Dice 0.5 and "b" 0.75: mean 0.625, worst 0.5."""

    def make(
        round: int,
        metrics: dict[str, float] | None = None,
        evaluated: bool = True,
        failures: tuple[SiteFailure, ...] = (),
        selected: bool = False,
    ) -> RoundRecord:
        sites = (
            SiteRound("a", 14, {"train_loss": 0.25, "seconds": 1.0, **(metrics or {})}, 100, 60),
            SiteRound("b", 20, {"train_loss": 0.75, "seconds": 2.0}, 100, 40),
        )
        scores = (
            Evaluation("a", round, 4, {"dice": 0.5, "iou": 0.375}),
            Evaluation("b", round, 5, {"dice": 0.75, "iou": 0.625}),
        )
        seconds = {"fit": 3.0, "round": 3.5}
        return RoundRecord(round, 4, ("a", "b"), sites, scores if evaluated else (), failures, seconds, selected)

    return make
