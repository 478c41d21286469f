"""Smaller pictures: areas are averaged, so that thin structures of masks do not break where pixels are skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def reduced_size(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Returns the (height, width) of a picture whose longer side has at most ``longest`` pixels.

    >>> reduced_size((584, 565), 512), reduced_size((100, 80), 512)
    ((512, 495), (100, 80))
    """
    factor = 1.0 if longest is None else min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def reduce_image(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Averages the area of every new pixel of an (H, W, C) image, which keeps its dtype."""
    if image.shape[:2] == size:
        return image
    planes = [_average(image[..., channel], size) for channel in range(image.shape[2])]
    return np.stack(planes, axis=2).round().astype(image.dtype)


def reduce_mask(
    mask: npt.NDArray[np.uint8], size: tuple[int, int], classes: int, reach: float
) -> npt.NDArray[np.uint8]:
    """Returns the class of every new pixel of an (H, W) mask.

    With two classes a pixel is foreground if ``reach`` of its area is; with more it has the class with the largest
    share, the first of equal ones.
    """
    if mask.shape == size:
        return mask
    shares = np.stack([_average(mask == index, size) for index in range(classes)])  # (K, h, w)
    found: npt.NDArray[Any] = shares[1] >= reach - 1e-6 if classes == 2 else shares.round(6).argmax(0)
    return found.astype(np.uint8)


def reduce_fov(fov: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Keeps of an (H, W) field of view the pixels in the middle of the new ones."""
    return fov if fov.shape == size else np.array(Image.fromarray(fov).resize(size[::-1], Image.Resampling.NEAREST))


def _average(plane: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    return np.array(Image.fromarray(plane.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX))
