"""Consistency: a network should segment an image alike in whatever style it comes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch, Step
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.image_style import ImageStyle


class ConsistentStyle(ImageStyle):
    """Restyles images and, if asked to, asks for equal predictions on two further views of the same images.

    Members have the arguments ``p`` and ``consistency`` (weight of the disagreement; 0 makes no further view).
    """

    consistency: float

    def validate(self) -> None:
        super().validate()
        if not self.consistency >= 0:
            raise ValueError(f"consistency must not be negative, got {self.consistency}. 0 makes no further view.")

    def transform_batch(self, batch: Batch) -> Batch:
        self._views: list[Tensor] = []
        if not self.p:
            return batch
        rows = self.draw_rows(len(batch["image"]))
        styled: Batch = {**batch, "image": self.restyle_some(batch, rows)}
        if self.consistency:
            self._views = self.further_views(batch, rows)
        return styled

    def further_views(self, batch: Batch, rows: Tensor) -> list[Tensor]:
        """Returns the images of a batch, (N, C, H, W), in two further styles; ``rows`` were restyled just before."""
        return [self.restyle_some(batch, self.draw_rows(len(batch["image"]))) for _ in range(2)]

    def penalty(self, step: Step) -> Tensor | None:
        if not self._views:
            return None
        logits = [step.logits, *(step.forward(images, None).logits for images in self._views)]
        return self.consistency * disagreement(logits, step.valid)

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._views = []
        return super().on_round_end(module)


def disagreement(logits: Sequence[Tensor], valid: Tensor) -> Tensor:
    """Returns the Jensen-Shannon divergence of predictions: the mean over views of KL(y_v, mean over views of y).

    Args:
        logits: V times (N, K, H, W); one logit is a binary task.
        valid: (N, H, W), bool.

    Returns:
        A scalar in nats, the mean over valid pixels; 0 if there are none.
    """
    logs = torch.stack([_log_probabilities(each.float()) for each in logits])  # (V, N, K, H, W)
    mean = logs.exp().mean(0).clamp_min(torch.finfo(torch.float32).tiny).log()
    each = (logs.exp() * (logs - mean)).sum(2).mean(0)  # (N, H, W)
    return (each * valid).sum() / valid.sum().clamp_min(1)


def _log_probabilities(logits: Tensor) -> Tensor:
    """Returns (N, K, H, W), K at least 2."""
    if logits.shape[1] > 1:
        return logits.log_softmax(1)
    return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], 1)
