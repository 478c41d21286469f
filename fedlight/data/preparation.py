"""From a case as it was read to what a network sees: grid and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fedlight.data.source import Pixels
from fedlight.geometry import Placing, content_size

Normalise = Literal["none", "z-score", "percentile"]

LOW, HIGH = 0.01, 0.99
"""The percentiles that "percentile" maps to 0 and 1."""

Label = TypeVar("Label", np.uint8, np.bool_)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What happens to every image before a network sees it.

    Attributes:
        channels: Channels of an image.
        grid: (height, width) that images are resized and padded to; None leaves them as they are.
        patch: (height, width) of random training patches; None trains on whole images.
        normalise: "none" is [0, 1] by the range of the type; "z-score" is zero mean and unit variance per channel;
            "percentile" maps the 1st and 99th percentile per channel to 0 and 1 and clips.
        spacing: (y, x) in mm that slices of volumes are resampled to; None leaves them as they are.
        context: Neighbours of a slice, on either side, that are further channels of it.
    """

    channels: int
    grid: tuple[int, int] | None
    patch: tuple[int, int] | None
    normalise: Normalise
    spacing: tuple[float, float] | None = None
    context: int = 0

    @property
    def placing(self) -> Placing:
        """How images come to the network's grid."""
        if self.grid is not None:
            return "boxed"
        return "padded" if self.spacing is None else "stretched"

    def resampled(self, size: tuple[int, int], spacing: tuple[float, ...]) -> tuple[int, int]:
        """Returns the (height, width) of an image or slice with a spacing, (..., y, x) in mm, after resampling."""
        if self.spacing is None:
            return size
        height, width = (max(1, round(size[i] * spacing[i - 2] / self.spacing[i])) for i in (0, 1))
        return height, width

    def place(self, image: Pixels, spacing: tuple[float, ...]) -> Pixels:
        """Brings an image or slice (H, W, C) to the network's grid."""
        if self.grid is not None:
            return letterbox(image, self.grid)
        return _resize(image, self.resampled((image.shape[0], image.shape[1]), spacing))


class Normaliser(NamedTuple):
    """Intensities of one image: x * scale + offset, on x in [0, 1]."""

    scale: npt.NDArray[np.float32]  # (C,)
    offset: npt.NDArray[np.float32]  # (C,)
    clip: bool

    def repeated(self, times: int) -> Normaliser:
        """Returns the normaliser of as many slices of a case as channels."""
        return self._replace(scale=np.tile(self.scale, times), offset=np.tile(self.offset, times))


def to_images(arrays: Sequence[Pixels | npt.NDArray[np.float32]], normalisers: Sequence[Normaliser | None]) -> Tensor:
    """Joins images to a batch and normalises each.

    Args:
        arrays: N times (h, w, C): integers, which count by the range of their type, or floats in [0, 1].
        normalisers: One an image, all of one kind; None leaves images in [0, 1].

    Returns:
        (N, C, h, w), float32.
    """
    stacked = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()  # (N, C, h, w)
    ranges = torch.tensor([full_range(array) for array in arrays], dtype=torch.float32)
    images = stacked.float().div_(ranges[:, None, None, None])
    given = [normaliser for normaliser in normalisers if normaliser is not None]
    if given:
        images.mul_(torch.from_numpy(np.stack([one.scale for one in given]))[:, :, None, None])
        images.add_(torch.from_numpy(np.stack([one.offset for one in given]))[:, :, None, None])
    return images.clamp_(0, 1) if any(one.clip for one in given) else images


def full_range(image: Pixels | npt.NDArray[np.float32]) -> int:
    """Returns the level that counts as 1: 255, 65535, or 1 for floats."""
    return 1 if image.dtype.kind == "f" else (1 << 8 * image.dtype.itemsize) - 1


def histograms(image: Pixels, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Counts the levels of every channel over valid pixels.

    Args:
        image: (H, W, C), uint8 or uint16.
        valid: (H, W), bool.

    Returns:
        (C, levels), int64; levels is 256 or 65536.
    """
    levels = full_range(image) + 1
    inside = image[valid]  # (pixels, C)
    return np.stack([np.bincount(inside[:, c], minlength=levels) for c in range(image.shape[2])])


def moments(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns mean and standard deviation per channel, both (C,), in [0, 1], from (C, levels) histograms."""
    levels = np.linspace(0, 1, counts.shape[1])
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ levels
    variance = (share * (levels - mean[:, None]) ** 2).sum(1)
    return mean, np.sqrt(variance)


def normaliser(normalise: Normalise, counts: npt.NDArray[np.int64]) -> Normaliser | None:
    """Makes the normaliser of an image from its (C, levels) histograms; a constant channel is only shifted."""
    if normalise == "z-score":
        mean, deviation = moments(counts)
        return _linear(mean, np.where(deviation > 0, deviation, 1), clip=False)
    if normalise == "percentile":
        low, high = _quantile(counts, LOW), _quantile(counts, HIGH)
        return _linear(low, np.where(high > low, high - low, 1), clip=True)
    return None


def _linear(shift: npt.NDArray[np.float64], spread: npt.NDArray[np.float64], clip: bool) -> Normaliser:
    return Normaliser((1 / spread).astype(np.float32), (-shift / spread).astype(np.float32), clip)


def _quantile(counts: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.float64]:
    reached = counts.cumsum(1) >= share * counts.sum(1, keepdims=True)
    found: npt.NDArray[np.float64] = reached.argmax(1) / (counts.shape[1] - 1)
    return found


def letterbox(image: Pixels, grid: tuple[int, int]) -> Pixels:
    """Scales an image by one factor to fit a grid, top left, and pads it with 0 to the right and below.

    Args:
        image: (H, W, C), uint8 or uint16.
        grid: (height, width).

    Returns:
        (height, width, C), in the dtype of ``image``; bilinear, smoothed first where it shrinks.
    """
    content = content_size((image.shape[0], image.shape[1]), grid)
    padded = np.zeros((*grid, image.shape[2]), dtype=image.dtype)
    padded[: content[0], : content[1]] = _resize(image, content)
    return padded


def _resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    if image.shape[:2] == size:
        return image
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]  # (1, C, H, W)
    resized = F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    return resized.round().clamp(0, full_range(image)).numpy().astype(image.dtype)


def letterbox_labels(labels: npt.NDArray[Label], grid: tuple[int, int]) -> npt.NDArray[Label]:
    """Does to a (H, W) mask or map of valid pixels what ``letterbox`` does to its image: nearest, padded with 0."""
    height, width = content_size((labels.shape[0], labels.shape[1]), grid)
    rows, columns = _centres(labels.shape[0], height), _centres(labels.shape[1], width)
    padded = np.zeros(grid, dtype=labels.dtype)
    padded[:height, :width] = labels[rows[:, None], columns]
    return padded


def stretch_labels(labels: npt.NDArray[Label], size: tuple[int, int]) -> npt.NDArray[Label]:
    """Scales a (H, W) mask or map of valid pixels to (height, width), nearest."""
    if labels.shape == size:
        return labels
    rows, columns = _centres(labels.shape[0], size[0]), _centres(labels.shape[1], size[1])
    return labels[rows[:, None], columns]


def _centres(old: int, new: int) -> npt.NDArray[np.int64]:
    return ((np.arange(new) * 2 + 1) * old) // (2 * new)  # the old pixel under the centre of each new one
