"""Networks that nobody trained, with the data settings that they would have been trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fedlight.data import FederatedDataModule, FolderSites
from fedlight.export.about import describe, graph_of, is_of_volumes, preparation_of
from fedlight.export.format import Exportable
from fedlight.randomness import seeded
from fedlight.tasks import SegmentationTask
from tests.conftest import small_task

RUN: dict[str, Any] = {"method": "FedAvg", "round": 3, "which": "selected", "site": None}


def folders(**settings: Any) -> FolderSites:
    """Data settings; no file of the root is looked at."""
    return FolderSites(root="nowhere", **settings)


def exportable(data: FederatedDataModule, **changes: Any) -> Exportable:
    """A network whose norms do something, described."""
    task = small_task(**changes)
    task.bind(data.format)
    with seeded(0, "weights"):
        task.configure_model()
        for parameter in task.parameters():
            parameter.data = torch.randn_like(parameter) * 0.2 + parameter.data
    return described(task.eval(), data)


def described(task: SegmentationTask, data: FederatedDataModule) -> Exportable:
    graph = graph_of(task, preparation_of(data))
    about = describe(task, graph, data, RUN)
    return Exportable(task, graph, preparation_of(data), about, "# A card\n", is_of_volumes(data))


def write_picture(path: Path, height: int, width: int) -> Path:
    """Noise with dark and bright corners, in colour, 8 bits."""
    draw = np.random.default_rng(0)
    ramp = np.linspace(30, 200, height * width).reshape(height, width, 1)
    pixels = ramp + draw.integers(0, 50, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path
