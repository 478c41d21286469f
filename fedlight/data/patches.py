"""Where a random patch is cut out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

TRIES = 64
"""Random positions that are looked at before all pixels are searched."""


def corner(
    mask: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    patch: tuple[int, int],
    foreground: float,
    random: torch.Generator,
) -> tuple[int, int]:
    """Draws the top left corner of a patch around a random valid pixel.

    The patch is centred on the pixel as far as the image allows, so it always contains it.

    Args:
        mask: (H, W), uint8, class index.
        valid: (H, W), bool, with at least one True.
        patch: (height, width), at most (H, W).
        foreground: Probability that the pixel is drawn among valid foreground pixels, if there are any.
        random: Source of randomness.
    """
    pixel = None
    if foreground > 0 and float(torch.rand((), generator=random)) < foreground:
        pixel = _draw(((mask > 0) & valid).reshape(-1), random)
    if pixel is None:
        pixel = _draw(valid.reshape(-1), random)
    y, x = divmod(pixel or 0, mask.shape[1])
    return _clamp(y, patch[0], mask.shape[0]), _clamp(x, patch[1], mask.shape[1])


def _draw(wanted: npt.NDArray[np.bool_], random: torch.Generator) -> int | None:
    """Draws one of the wanted pixels, each with the same probability; None if there is none."""
    tries = torch.randint(wanted.size, (TRIES,), generator=random).numpy()
    hits = tries[wanted[tries]]
    if hits.size:
        return int(hits[0])
    pixels = np.flatnonzero(wanted)
    return int(pixels[tries[0] % pixels.size]) if pixels.size else None


def _clamp(centre: int, length: int, size: int) -> int:
    return min(max(centre - length // 2, 0), size - length)
