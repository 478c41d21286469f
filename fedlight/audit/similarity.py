"""How much of an image a reader has got: PSNR and SSIM against the true one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

_WINDOW = 5
"""Side of the windows of SSIM, in pixels: the images of an attack are small."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like two images are.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB; the peak is the true image's range.
        ssim: Structural similarity, at most 1.
    """

    psnr: float
    ssim: float


def likeness(guess: Tensor, truth: Tensor) -> Likeness:
    """Compares a reconstruction with the true image, both (C, H, W)."""
    guess, truth = guess.detach().float().cpu(), truth.detach().float().cpu()
    span = max(float(truth.max() - truth.min()), 1e-6)
    error = float((guess - truth).square().mean())
    psnr = 10 * float(torch.log10(torch.tensor(span * span / max(error, 1e-12 * span * span))))
    ssim = structural_similarity_index_measure(
        guess[None], truth[None], gaussian_kernel=False, kernel_size=_WINDOW, data_range=span
    )
    return Likeness(psnr, float(ssim))


def best_match(guess: Tensor, truths: Tensor) -> Likeness:
    """Compares a reconstruction (C, H, W) with every one of several images (N, C, H, W), in the attacker's favour."""
    return max((likeness(guess, truth) for truth in truths), key=lambda found: found.psnr)
