"""Small real parts that tests are made of: a task, synthetic sites and a federation over them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.update(
    NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="offline", WANDB_ERROR_REPORTING="false", FLWR_TELEMETRY_ENABLED="0"
)
torch.set_num_threads(1)

from fedlight.data import SyntheticSites  # noqa: E402  # after the environment is set
from fedlight.federation import Federation  # noqa: E402
from fedlight.plugins.discovery import discover  # noqa: E402
from fedlight.tasks import SegmentationTask  # noqa: E402

discover()


def small_task(**changes: Any) -> SegmentationTask:
    """A U-Net of 124 thousand parameters with SGD."""
    arguments: dict[str, Any] = {"encoder": "plain-8", "optimizer": _sgd}
    return SegmentationTask(**{**arguments, **changes})


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def small_sites(**changes: Any) -> SyntheticSites:
    """Three training sites of six 16 x 16 cases, and a fourth that takes no part."""
    arguments: dict[str, Any] = {"num_sites": 4, "held_out": "site4", "cases": 6, "image_size": 16, "batch_size": 2}
    return SyntheticSites(**{**arguments, **changes})


def fedavg() -> Any:
    """The default aggregator."""
    from fedlight_algorithms.fedavg import FedAvg

    return FedAvg()


@pytest.fixture
def federate(tmp_path: Path) -> Callable[..., Federation]:
    """Makes a quiet federation of three rounds in a temporary run folder."""

    def make(**changes: Any) -> Federation:
        trainer = {"accelerator": "cpu", "devices": 1}
        arguments: dict[str, Any] = {
            "aggregator": fedavg(),
            "rounds": 3,
            "local_steps": 2,
            "run_folder": str(tmp_path / "run"),
            "trainer": trainer,
            "console": False,
        }
        return Federation(**{**arguments, **changes})

    return make
