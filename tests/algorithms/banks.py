"""Small parts for tests of plugins with a bank of styles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins import ClientPlugin
from fedlight.update import Broadcast
from tests.contracts.harness import context_of, images_of, task


def flat_batch(values: list[list[float]]) -> Batch:
    """Images of one row and one channel, all pixels valid."""
    image = torch.tensor(values)[:, None, None]
    valid = torch.ones(len(values), 1, image.shape[-1], dtype=torch.bool)
    return {**images_of("A", len(values)), "image": image, "valid": valid}


def begun(plugin: Any, bank: dict[str, Tensor], site: str = "A") -> Any:
    """Puts a plugin into a round that knows a bank."""
    plugin.instance_id = type(plugin).__name__
    plugin.generator = torch.Generator().manual_seed(0)
    plugin.on_round_start(site, task(), Broadcast(context_of(), {}, {}, {plugin.instance_id: bank}))
    return plugin


def restyled(plugin: ClientPlugin, batch: Batch) -> Tensor:
    """Sends a batch through a plugin at the input."""
    styled: Tensor = plugin.restyle("input", batch["image"], plugin.transform_batch(batch))
    return styled


def style(mean: float, std: float, mean_spread: float = 0.0, std_spread: float = 0.0) -> Tensor:
    """A site's shared style of one channel, (4, 1)."""
    return torch.tensor([[mean], [std], [mean_spread], [std_spread]])
