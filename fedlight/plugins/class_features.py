"""Features by class: masked average pooling at any stage of a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_weights(masks: Tensor, valid: Tensor, classes: int, size: tuple[int, int]) -> Tensor:
    """Counts the valid pixels of every class behind each place of a feature map.

    Args:
        masks: (N, H, W), int64.
        valid: (N, H, W), bool.
        classes: Number of classes, K, background included.
        size: (h, w) of the feature map.

    Returns:
        (N, K, h, w), float32. A mean of features with these weights is that over the pixels of a class, each with the
        features of its place; thin structures count by their area.
    """
    one_hot = F.one_hot(masks, classes).permute(0, 3, 1, 2).float() * valid[:, None]  # (N, K, H, W)
    if one_hot.shape[-2:] == size:
        return one_hot
    area = masks.shape[-2] * masks.shape[-1] / (size[0] * size[1])
    return F.adaptive_avg_pool2d(one_hot, size) * area


def embeddings(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean features of every class in every image, and of how many pixels they are.

    Args:
        x: (N, C, h, w), with gradient.
        weights: (N, K, h, w), of ``class_weights``.

    Returns:
        Means (N, K, C), float32, 0 where a class is absent, and counts (N, K).
    """
    counts = weights.sum(dim=(2, 3))
    sums = torch.einsum("nkp,ncp->nkc", weights.flatten(2), x.float().flatten(2))
    return sums / counts.clamp_min(1e-6)[:, :, None], counts


def number_of_classes(logits: Tensor) -> int:
    """Returns K for logits (N, K, H, W); a binary task has one logit and two classes."""
    return max(logits.shape[1], 2)
