"""Run folders as the trackers of a run write them, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedlight.tracking import (
    ConsoleTracker,
    Fanout,
    JsonlTracker,
    RoundRecord,
    RunInfo,
    SiteRound,
    StatusTracker,
    Tracker,
)
from fedlight.update import Evaluation, SiteFailure

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "data": {"class_path": "fedlight.data.SyntheticSites", "init_args": {"held_out": "c"}},
    "federation": {"aggregator": {"class_path": "fedlight_algorithms.fedavg.FedAvg"}, "plugins": [], "rounds": 4},
}


def info(folder: Path, start_round: int = 0) -> RunInfo:
    """A federation of two sites, "a" and "b", with institution "c" held out."""
    return RunInfo(
        name=folder.name,
        folder=folder,
        config=CONFIG,
        sites=("a", "b"),
        held_out=("c",),
        classes=("background", "vessel"),
        rounds=4,
        start_round=start_round,
        local_steps={"a": 10, "b": 12},
        num_parameters=500_000,
        num_samples={"a": 14, "b": 20},
        method="FedAvg",
    )


def record(round: int, selected: bool = False, loss: float = 0.25) -> RoundRecord:
    """A round with Dice 0.5 at "a" and 0.75 at "b", and 200 + 100 + 700 000 bytes on the way."""
    sites = (
        SiteRound("a", 14, {"train_loss": loss, "seconds": 1.0}, 100, 60, {"bytes_up/parameters": 60}),
        SiteRound("b", 20, {"train_loss": 0.75, "seconds": 2.0}, 100, 40),
    )
    scores = (Evaluation("a", round, 4, {"dice": 0.5, "iou": 0.375}), Evaluation("b", round, 5, {"dice": 0.75}))
    failures = (SiteFailure("b", round, "evaluate", "late", "no answer"),) if round == 3 else ()
    return RoundRecord(round, 4, ("a", "b"), sites, scores, failures, {"round": 3.5}, selected, 700_000)


def begin(
    folder: Path, config: dict[str, Any] | None = None, console: ConsoleTracker | None = None, start: int = 0
) -> Tracker:
    """Starts a run of nothing but its record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG if config is None else config))
    tracker = Fanout([JsonlTracker(), StatusTracker(), *([console] if console else [])])
    tracker.start(info(folder, start))
    return tracker


def whole(folder: Path, config: dict[str, Any] | None = None) -> None:
    """A finished run of four rounds, the second selected, tested at "c" with Dice 0.25."""
    tracker = begin(folder, config)
    for round in range(1, 5):
        tracker.on_round(record(round, selected=round == 2))
    tracker.on_test("held-out", "global", [Evaluation("c", 2, 20, {"dice": 0.25})], ())
    tracker.finish("finished", {})
