"""Styles that are made up for single images: nothing is shared, no other image is needed."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.style import StyleAugmentation, require_probability


class ImageStyle(StyleAugmentation):
    """Gives images of a batch another look, each on its own; a member says what becomes of an image.

    Members have the argument ``p`` (probability that an image is restyled). They compute in float32 at any precision
    of the run. What is not valid keeps its values, and so do masks.
    """

    p: float

    @abstractmethod
    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """Returns images in another style, drawn from ``self.generator``.

        Args:
            images: (n, C, H, W), float32, n at least 1.
            masks: (n, H, W), int64.
            valid: (n, H, W), bool.

        Returns:
            (n, C, H, W), float32; what stands where pixels are not valid is not used.
        """

    def validate(self) -> None:
        require_probability(self.p)

    def transform_batch(self, batch: Batch) -> Batch:
        if not self.p:
            return batch
        return {**batch, "image": self.restyle_some(batch, self.draw_rows(len(batch["image"])))}

    def draw_rows(self, n: int) -> Tensor:
        """Draws which of n images are restyled: their indices, int64."""
        return (torch.rand(n, generator=self.generator) < self.p).nonzero().flatten()

    def restyle_some(self, batch: Batch, rows: Tensor) -> Tensor:
        """Returns the images of a batch, some of them restyled: (N, C, H, W), in the dtype that they had."""
        if not len(rows):
            return batch["image"]
        rows = rows.to(batch["image"].device)
        chosen = batch["image"][rows].float()
        with torch.autocast(chosen.device.type, enabled=False):
            styled = self.restyled(chosen, batch["mask"][rows], batch["valid"][rows])
        return put_back(batch, rows, styled)

    def uniform(self, bounds: tuple[float, float], *size: int) -> Tensor:
        """Draws from U(low, high) on the CPU: float32."""
        low, high = bounds
        return low + (high - low) * torch.rand(*size, generator=self.generator)


def put_back(batch: Batch, rows: Tensor, styled: Tensor) -> Tensor:
    """Returns the images of a batch with valid pixels of some of them replaced.

    Args:
        batch: Of N images.
        rows: (n,), int64, which of them.
        styled: (n, C, H, W), what replaces them.

    Returns:
        (N, C, H, W), in the dtype of the batch.
    """
    images = batch["image"]
    new = torch.where(batch["valid"][rows][:, None], styled.to(images.dtype), images[rows])
    return images.index_copy(0, rows, new)
