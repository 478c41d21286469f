"""Intensities of single images, however they were normalised: their range and their scale over valid pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlight.statistics import channel_moments, valid_at

FLAT = 1e-6
"""Ranges and deviations below this are rounding errors: such an image has one value."""


def inside_of(images: Tensor, valid: Tensor) -> Tensor:
    """Returns where pixels count, (N, 1, H, W), bool; an image without a valid pixel counts whole."""
    return valid_at(valid, (images.shape[-2], images.shape[-1])).bool()


def valid_range(images: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the least value of every image and the width of its range, all channels together.

    Args:
        images: (N, C, H, W), floating.
        inside: (N, 1, H, W), bool, at least one pixel an image.

    Returns:
        Both (N, 1, 1, 1), in the dtype of ``images``; the width is 0 for an image of one value.
    """
    low = images.masked_fill(~inside, torch.inf).amin((1, 2, 3), keepdim=True)
    high = images.masked_fill(~inside, -torch.inf).amax((1, 2, 3), keepdim=True)
    return low, high - low


def standardised(images: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Brings every image to mean 0 and deviation 1, all channels together; pixels that do not count become 0.

    Args:
        images: (N, C, H, W), float32.
        valid: (N, H, W), bool.

    Returns:
        Images (N, C, H, W), and the mean and the deviation that they had, (N, 1, 1, 1) each. An image of one value
        becomes 0.
    """
    means, variances = channel_moments(images, valid)  # (N, C, 1, 1)
    mean = means.mean(1, keepdim=True)
    std = (variances.mean(1, keepdim=True) + means.var(1, unbiased=False, keepdim=True)).sqrt()
    return (images - mean) / std.clamp_min(FLAT) * inside_of(images, valid), mean, std
