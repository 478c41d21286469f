"""What a reader makes of amplitudes and of channel statistics: the best picture that they give without more."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlight.plugins.amplitude import low_frequencies


def window_image(amplitude: Tensor, size: tuple[int, int], phase: Tensor | None = None) -> Tensor:
    """Returns the image with given amplitudes in the window of low frequencies and nothing beyond.

    Args:
        amplitude: (C, 2b+1, b+1), divided by H W.
        size: (H, W).
        phase: (C, H, W), an image whose phase is put to the amplitudes; without, phases are 0, as of a public guess.

    Returns:
        (C, H, W).
    """
    b = amplitude.shape[-1] - 1
    spectrum = torch.zeros(len(amplitude), size[0], size[1] // 2 + 1, dtype=torch.complex64)
    rows = torch.arange(-b, b + 1)
    turned = torch.ones_like(amplitude, dtype=torch.complex64)
    if phase is not None:
        turned = torch.exp(1j * low_frequencies(torch.fft.rfft2(phase.float(), norm="forward"), b).angle())
    spectrum[:, rows, : b + 1] = amplitude * turned
    image: Tensor = torch.fft.irfft2(spectrum, s=size, norm="forward")
    return image


def whole_amplitude(image: Tensor) -> Tensor:
    """Returns all amplitudes of an image (C, H, W) of even sides, but for the highest: (C, 2b+1, b+1)."""
    b = min(image.shape[-2:]) // 2 - 1
    return low_frequencies(torch.fft.rfft2(image.float(), norm="forward"), b).abs()


def flat_image(means: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the constant image that channel means (C,) give: (C, H, W)."""
    return means[:, None, None].expand(-1, *size).clone()
