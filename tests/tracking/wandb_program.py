"""A program of a hospital that trains with W&B; run by test_wandb.py in a process of its own.

Usage: wandb_program.py FOLDER OPTIONS, with OPTIONS a JSON object: arguments of the tracker, and "start_round".
Prints a JSON object with the seconds that calls took.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fedlight.tracking import RoundRecord, RunInfo, SiteRound, WandbTracker
from fedlight.update import Evaluation

CONFIG = {"seed": 1, "data": {"sites": ["a", "b"], "held_out": "c"}, "lr": 0.1, "ckpt": None}


def main(folder: Path, start_round: int = 0, **options: Any) -> None:
    logging.basicConfig(format="%(message)s")
    classes = ("background", "vessel")
    run = RunInfo("two-sites", folder, CONFIG, ("a", "b"), ("c",), classes, rounds=3, start_round=start_round)
    tracker = WandbTracker(**options)
    seconds = {"start": timed(lambda: tracker.start(run))}
    seconds["rounds"] = timed(lambda: train(tracker, start_round))
    (folder / "global.ckpt").write_text("weights")
    summary = {"best": {"round": 3}}
    seconds["finish"] = timed(lambda: tracker.finish("finished", summary, [folder / "global.ckpt"]))
    print(json.dumps({"seconds": seconds, "ended": time.time()}))


def train(tracker: WandbTracker, start_round: int) -> None:
    for round in range(start_round + 1, 4):
        tracker.on_round(record(round))
    pixels, labels = torch.rand(2, 3, 16, 16), torch.ones(2, 16, 16, dtype=torch.int64)
    tracker.on_overlays("a", 3, pixels, labels, labels)
    tracker.on_test("held-out", "global", [Evaluation("c", 3, 20, {"dice": 0.25})], ())


def record(round: int) -> RoundRecord:
    sites = tuple(SiteRound(site, 14, {"train_loss": 1 / round}, 100, 60) for site in ("a", "b"))
    scores = (Evaluation("a", round, 4, {"dice": 0.5, "iou": 0.25}), Evaluation("b", round, 4, {"dice": 0.75}))
    return RoundRecord(round, 3, ("a", "b"), sites, scores, seconds={"fit": 1.0})


def timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
