"""Amplitudes of low frequencies: what they are and how they are exchanged.

F(x) = A(x) exp(i P(x)). The window is |k_y| <= b and |k_x| <= b; of a real image, half of it is enough. Amplitudes are
divided by H W, so that they mean the same for images of another size.
"""

from __future__ import annotations

from math import ceil, floor

import torch
from torch import Tensor

from fedlight.statistics import channel_moments

NO_PHASE = 1e-6
"""Amplitudes below this, in units of intensity, are rounding errors."""


WIDE = 0.1
"""Windows up to this share of the shorter side hold brightness, colour and shading; wider ones begin to hold shapes."""


def beyond_window(window: float) -> str:
    """Says that amplitudes are shared from a window so wide that it is more than style; nothing where it is not."""
    return f"amplitudes up to {window:g} of the shorter side (window), more than the lowest {WIDE:g}" * (window > WIDE)


def require_window(window: float) -> None:
    """Checks the half-width of a window as a share of an image's shorter side.

    Raises:
        ValueError: If it is none or more than half.
    """
    if not 0 < window < 0.5:
        raise ValueError(f"window must be in (0, 0.5), got {window}. The default is 0.1.")


def half_width(window: float, height: int, width: int) -> int:
    """Returns b, the highest frequency of a window.

    Raises:
        ValueError: If only the mean would be left (b = 0).
    """
    b = floor(window * min(height, width))
    if b < 1:
        least = ceil(1e4 / min(height, width)) / 1e4
        raise ValueError(
            f"window must reach the first frequency, got {window} for {height}x{width} images (half-width 0). "
            f"Use at least {least}."
        )
    return b


def spectrum_of(images: Tensor, valid: Tensor) -> Tensor:
    """Returns the spectrum of images whose pixels that do not count are filled with the mean of the others.

    Args:
        images: (N, C, H, W).
        valid: (N, H, W), bool.

    Returns:
        (N, C, H, W // 2 + 1), complex, divided by H W.
    """
    filled = torch.where(valid[:, None], images, channel_moments(images, valid)[0])
    spectrum: Tensor = torch.fft.rfft2(filled.float(), norm="forward")
    return spectrum


def low_frequencies(spectrum: Tensor, b: int) -> Tensor:
    """Returns the window |k_y| <= b, 0 <= k_x <= b of a real image's spectrum: (N, C, 2b+1, b+1), k_y from -b."""
    rows = torch.arange(-b, b + 1, device=spectrum.device)
    return spectrum[..., rows, : b + 1]


def mix(spectrum: Tensor, amplitude: Tensor, share: Tensor, b: int, size: tuple[int, int]) -> Tensor:
    """Returns images whose window has mixed amplitudes and whose phases are kept.

    A frequency without amplitude has no phase and stays as it is.

    Args:
        spectrum: (N, C, H, W // 2 + 1), complex, of real images, divided by H W.
        amplitude: (N, C, 2b+1, b+1), the other amplitudes, divided by H W.
        share: (N,), lambda in [0, 1].
        b: Half-width of the window.
        size: (H, W).

    Returns:
        (N, C, H, W), float32.
    """
    share = share[:, None, None, None]
    low = low_frequencies(spectrum, b)
    own = low.abs()
    factor = ((1 - share) * own + share * amplitude) / own.clamp_min(NO_PHASE)
    mixed = spectrum.clone()
    rows = torch.arange(-b, b + 1, device=spectrum.device)
    mixed[..., rows, : b + 1] = torch.where(own > NO_PHASE, low * factor, low)
    images: Tensor = torch.fft.irfft2(mixed, s=size, norm="forward")
    return images
