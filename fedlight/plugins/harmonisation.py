"""Harmonisation: images are brought to what the federation agreed on, before any network sees them."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.client_plugin import ClientPlugin, Statistics
from fedlight.plugins.discovery import discover, find
from fedlight.update import Broadcast


class Harmonisation(ClientPlugin):
    """Changes every image in the same way in training, evaluation and prediction, towards a shared reference.

    The reference is what the server side returns from ``finish``; it is kept with the model, so that a checkpoint
    harmonises what it segments. A member measures its site's images in ``measure`` and says in ``harmonise`` what
    becomes of an image; there is no randomness in it. It acts before all other plugins, wherever it is listed.
    """

    kind: ClassVar[str] = "harmonisation"

    @abstractmethod
    def harmonise(self, images: Tensor, valid: Tensor, reference: Statistics) -> Tensor:
        """Returns images as the network is to see them, one by one and with nothing but the reference.

        Args:
            images: (N, C, H, W), as the data module gives them.
            valid: (N, H, W), bool, on the grid of the images.
            reference: What ``finish`` returned, on any device; empty in the first round.

        Returns:
            (N, C, H, W), in the dtype of ``images``.
        """

    def measure(self, batch: Batch) -> None:
        """Looks at a training batch as the data module gave it."""

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        super().on_round_start(site, module, broadcast)
        self._reference = broadcast.shared.get(self.instance_id, {})

    def transform_batch(self, batch: Batch) -> Batch:
        self.measure(batch)
        return {**batch, "image": self.harmonise(batch["image"], batch["valid"], self._reference)}


Harmonisers = Sequence[tuple[Harmonisation, Statistics]]
"""Plugins that harmonise, in config order, each with its reference."""


def saved(harmonisers: Harmonisers) -> list[dict[str, Any]]:
    """Returns plain values and tensors from which ``rebuilt`` makes the plugins and their references again."""
    return [
        {
            "id": plugin.instance_id,
            "plugin": type(plugin).__name__,
            "arguments": _arguments(plugin),
            "reference": {name: value.detach().cpu().clone() for name, value in reference.items()},
        }
        for plugin, reference in harmonisers
    ]


def rebuilt(entries: Sequence[Mapping[str, Any]]) -> Harmonisers:
    """Makes plugins and references from what ``saved`` returned.

    Raises:
        ValueError: If a plugin is not registered here.
    """
    if entries:
        discover()
    harmonisers = []
    for entry in entries:
        plugin: Any = find(entry["plugin"], Harmonisation).cls(**entry["arguments"])
        plugin.instance_id = entry["id"]
        harmonisers.append((plugin, dict(entry["reference"])))
    return harmonisers


def _arguments(plugin: Harmonisation) -> dict[str, Any]:
    """Returns the arguments of a plugin's constructor, which stores them under their names."""
    names = [name for name in inspect.signature(type(plugin).__init__).parameters if name != "self"]
    values = {name: getattr(plugin, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
