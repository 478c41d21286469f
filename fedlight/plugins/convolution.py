"""Convolutions in which every image has kernels of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve_each(x: Tensor, kernels: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Cross-correlates every image with its own kernels, padded with 0 to keep its size.

    Args:
        x: (N, C, H, W).
        kernels: (N, O, C, k, k), k odd.
        shifts: (N, O), added to what comes out.

    Returns:
        (N, O, H, W).
    """
    n, out, _, k, _ = kernels.shape
    bias = None if shifts is None else shifts.flatten()
    images = x.reshape(1, -1, *x.shape[-2:])  # the images as groups of channels of one
    return F.conv2d(images, kernels.flatten(0, 1), bias, padding=k // 2, groups=n).reshape(n, out, *x.shape[-2:])


def blurred(x: Tensor, inside: Tensor, sigma: Tensor) -> Tensor:
    """Blurs every image by a Gaussian of its own, a mean over the pixels that count; none leaks in from outside.

    Args:
        x: (N, C, H, W).
        inside: (N, 1, H, W), bool, which pixels count.
        sigma: (N,), standard deviations in pixels, positive.

    Returns:
        (N, C, H, W); 0 where no pixel that counts is near.
    """
    both = torch.cat([x * inside, inside.to(x.dtype)], 1)  # (N, C + 1, H, W)
    sums = convolve_each(both.flatten(0, 1)[:, None], _gaussian(sigma).repeat_interleave(both.shape[1], 0))
    sums = sums.reshape(both.shape)
    return sums[:, :-1] / sums[:, -1:].clamp_min(1e-6)


def _gaussian(sigma: Tensor) -> Tensor:
    """Returns Gaussian kernels that reach three deviations of the widest: (N,) to (N, 1, 1, k, k), of sum 1."""
    reach = max(int(torch.ceil(3 * sigma.max())), 1)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=sigma.device) / sigma[:, None]).square())  # (N, k)
    line = line / line.sum(1, keepdim=True)
    return (line[:, :, None] * line[:, None, :])[:, None, None]


def mix(plain: Tensor, other: Tensor, alpha: Tensor) -> Tensor:
    """Returns alpha other + (1 - alpha) plain, for images (N, C, H, W) and one alpha an image, (N,)."""
    alpha = alpha[:, None, None, None]
    return alpha * other + (1 - alpha) * plain


def require_odd(kernel_sizes: Sequence[int]) -> None:
    """Checks sides of kernels.

    Raises:
        ValueError: If there are none or one is not odd and positive.
    """
    if not kernel_sizes or any(k < 1 or k % 2 == 0 for k in kernel_sizes):
        raise ValueError(f"kernel_sizes must be odd and positive, got {list(kernel_sizes)}. Use 1, 3, 5 or 7.")
