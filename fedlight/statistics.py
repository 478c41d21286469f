"""Statistics of images and features over valid pixels only (no padding, no black surround)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def valid_at(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings a map of valid pixels to the resolution of a feature map.

    Args:
        valid: (N, H, W), bool.
        size: (h, w) of the feature map.

    Returns:
        (N, 1, h, w), float32, 1 where the nearest pixel is valid. An image without a valid pixel counts whole,
        so that its statistics stay defined.
    """
    weights = valid[:, None].to(torch.float32)
    if weights.shape[-2:] != size:
        weights = F.interpolate(weights, size=size, mode="nearest-exact")
    empty = weights.sum(dim=(2, 3), keepdim=True) == 0
    return torch.where(empty, torch.ones_like(weights), weights)


def channel_moments(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and (biased) variance per instance and channel over valid pixels.

    Args:
        x: (N, C, h, w), images or features, any floating dtype.
        valid: (N, H, W), bool, at image resolution.

    Returns:
        Mean and variance, both (N, C, 1, 1), float32 (float64 if ``x`` is).
    """
    wide = x if x.dtype == torch.float64 else x.float()
    if bool(valid.all()):
        return wide.mean(dim=(2, 3), keepdim=True), wide.var(dim=(2, 3), keepdim=True, unbiased=False)
    weights = valid_at(valid, (x.shape[-2], x.shape[-1])).to(wide.dtype)  # (N, 1, h, w)
    count = weights.sum(dim=(2, 3), keepdim=True)
    mean = (wide * weights).sum(dim=(2, 3), keepdim=True) / count
    variance = ((wide - mean).square() * weights).sum(dim=(2, 3), keepdim=True) / count
    return mean, variance


def fuse_moments(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Fuses the moments of several groups into those of their union (law of total variance).

    Args:
        counts: (K,), the weight of each group.
        means: (K, C).
        variances: (K, C), biased.

    Returns:
        Mean and biased variance of the union, both (C,), in the dtype of ``means``, computed in float64.
    """
    share = (counts.double() / counts.double().sum())[:, None]  # (K, 1)
    mean = (share * means.double()).sum(0)
    variance = (share * (variances.double() + (means.double() - mean).square())).sum(0)
    return mean.to(means.dtype), variance.to(means.dtype)


def fuse_covariances(counts: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Fuses the moments of several groups into those of their union (law of total covariance).

    Args:
        counts: (K,), the weight of each group.
        means: (K, d).
        covariances: (K, d, d), biased.

    Returns:
        Mean (d,) and biased covariance (d, d) of the union, computed in float64.
    """
    share, wide = counts.double() / counts.double().sum(), means.double()
    mean = share @ wide
    away = wide - mean
    covariance = (share[:, None, None] * (covariances.double() + away[:, :, None] * away[:, None, :])).sum(0)
    return mean.to(means.dtype), covariance.to(covariances.dtype)
