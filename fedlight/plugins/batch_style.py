"""Style augmentations of features that need nothing but the batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.style import StyleAugmentation, require_probability


class BatchStyle(StyleAugmentation):
    """Restyles whole batches of features; every stage tosses a coin of its own, and nothing is shared.

    Members have the arguments ``p`` (probability that a batch is restyled at a stage) and ``stages`` (where). A batch
    of one image stays as it is if the member mixes images.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}
    p: float

    @abstractmethod
    def put_on(self, x: Tensor, valid: Tensor) -> Tensor:
        """Returns restyled features.

        Args:
            x: (N, C, h, w).
            valid: (N, H, W), bool, at image resolution.

        Returns:
            (N, C, h, w), in the dtype of ``x``.
        """

    def validate(self) -> None:
        require_probability(self.p)

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        alone = len(x) < 2 and not self.example_independent
        if alone or torch.rand((), generator=self.generator) >= self.p:
            return x
        return self.put_on(x, batch["valid"])
