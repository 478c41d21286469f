"""What is written into files: a network with the normalisation of its data in front of it.

Images come in [0, 1]. What an image is normalised by are statistics of all of it, taken before it is resized, padded or
cut into windows, so they are inputs of their own: statistics of a window would be others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedlight.data.preparation import Normalise
from fedlight.randomness import generator


class Graph(nn.Module):
    """Maps images (N, C, H, W), float32, in [0, 1], and their statistics to logits (N, L, H, W).

    Args:
        network: Maps normalised images to logits.
        channels: Channels that images have.
        neighbours: Slices that are channels of an image, each with all of its own; 1 for images.
    """

    statistics: ClassVar[Mapping[str, str]]
    """Names of the inputs beside the images, each (N, C / neighbours), with what they are."""

    def __init__(self, network: nn.Module, channels: int, neighbours: int = 1) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.neighbours = neighbours

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all inputs in their order."""
        return ("images", *self.statistics)

    @abstractmethod
    def forward(self, images: Tensor, *statistics: Tensor) -> Tensor:
        """Returns logits (N, L, H, W)."""

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Returns random inputs, the same at every call: images, then statistics, each in (0, 1) and rising by name."""
        draw = generator(0, "export", batch, height, width)
        images = torch.rand(batch, self.channels, height, width, generator=draw)
        own = self.channels // self.neighbours
        given = [0.2 + 0.4 * index + 0.2 * torch.rand(batch, own, generator=draw) for index in range(2)]
        return (images, *given[: len(self.statistics)])

    def _of_pixels(self, statistic: Tensor) -> Tensor:
        return statistic.repeat(1, self.neighbours)[:, :, None, None]  # (N, C, 1, 1)


class Plain(Graph):
    """A network that takes images as they are."""

    statistics: ClassVar[Mapping[str, str]] = {}

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]  # exporters read the signature
        """Returns logits (N, L, H, W)."""
        return self.network(images)  # type: ignore[no-any-return]


class ZScore(Graph):
    """A network that takes images of zero mean and unit variance; a constant channel is only shifted."""

    statistics: ClassVar[Mapping[str, str]] = {
        "mean": "mean of every channel over the whole image, in [0, 1]",
        "deviation": "standard deviation of every channel over the whole image, with the number of pixels as divisor",
    }

    def forward(self, images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:  # type: ignore[override]
        """Returns logits (N, L, H, W)."""
        spread = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        return self.network((images - self._of_pixels(mean)) / self._of_pixels(spread))  # type: ignore[no-any-return]


class Percentile(Graph):
    """A network that takes images whose 1st and 99th percentile are 0 and 1; a constant channel is only shifted."""

    statistics: ClassVar[Mapping[str, str]] = {
        "low": "1st percentile of every channel over the whole image, in [0, 1]: the least level that 1 % reach",
        "high": "99th percentile of every channel over the whole image, alike",
    }

    def forward(self, images: Tensor, low: Tensor, high: Tensor) -> Tensor:  # type: ignore[override]
        """Returns logits (N, L, H, W)."""
        spread = torch.where(high > low, high - low, torch.ones_like(high))
        shifted = (images - self._of_pixels(low)) / self._of_pixels(spread)
        return self.network(shifted.clamp(0, 1))  # type: ignore[no-any-return]


GRAPHS: Mapping[Normalise, type[Graph]] = {"none": Plain, "z-score": ZScore, "percentile": Percentile}
