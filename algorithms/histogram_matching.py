"""HistogramMatching: every image gets the federation's mean histogram (after Nyul and Udupa 1999).

Before any network sees it, in training and wherever the model is used, the intensities of an image are mapped so that
their distribution is the same everywhere: the simplest cure for devices that differ in brightness, contrast and colour.

    T(x) = Q(F(x))         F: the distribution of the image's own channel;   equal intensities share their middle rank
    Q(r) = mean over sites of the mean over their images of the quantile function, from the first round, then frozen
    x'   = x + strength (T(x) - x)

It is histogram specification, landmarks of which have long been used to standardise MR images. A mean of quantile
functions is the Wasserstein barycentre of the distributions.

Shared: once, K quantiles a channel up, and Q down in every round, 4 K C bytes; with colour images and K = 256, 3072
bytes up and 3072 down with four sites. Privacy: a mean over at least ``min_images`` images and then over sites; the
outermost quantiles are means of single darkest and brightest pixels. Secure aggregation: yes, the server needs the sum
only. Cost: 1.01 times FedAvg's time; a pass over an image, also in prediction. Settings that matter: ``strength``.
It acts before other plugins, wherever it is listed.

Deviations: landmarks are all K quantiles, not ten. Histograms have 1024 bins over the range of a channel. Statistics
count valid pixels only, and what is not valid keeps its values; ``predict`` knows no field of view, so there the
surround counts. Patches are refused: a patch of a lesion would be given the histogram of a whole image, and the model
would be used on whole images that were mapped otherwise. Sites that join after the first round, and the unseen one, do
not count in Q. The first round trains on plain images, as Q is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.data_format import DataFormat
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.intensity import FLAT, inside_of
from fedlight.plugins.mean_reference import MeanReference

BINS = 1024
"""Of a histogram; the levels of an 8-bit image of full range are four apart."""


class HistogramMatching(MeanReference):
    """Maps the intensities of every image to the federation's mean distribution, channel by channel.

    Args:
        strength: How far intensities go, in [0, 1]; 0 gives FedAvg.
        quantiles: Even levels at which distributions are shared, the least and the greatest value included.
        min_images: A site that saw fewer different images in the first round shares nothing.
    """

    example_independent = True
    null: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    measured = "quantiles of every channel of the images"

    def __init__(self, strength: float = 1.0, quantiles: int = 256, min_images: int = 5) -> None:
        self.strength = strength
        self.quantiles = quantiles
        self.min_images = min_images

    def validate(self) -> None:
        super().validate()
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be in [0, 1], got {self.strength}. 1 matches histograms fully.")
        if self.quantiles < 2:
            raise ValueError(f"quantiles must be at least 2, got {self.quantiles}. The default is 256.")

    def check(self, data: DataFormat) -> None:
        if self.strength and data.patches:
            raise ValueError(
                f"strength must be 0 where patches are trained, got {self.strength}. Train on whole images."
            )

    def active(self) -> bool:
        return self.strength > 0

    def describe(self, images: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
        return {"quantiles": quantiles_of(images.float(), inside_of(images, valid), self.quantiles)}

    def from_means(self, means: Statistics) -> Statistics:
        return {name: mean.sort(-1).values for name, mean in means.items()}

    def harmonise(self, images: Tensor, valid: Tensor, reference: Statistics) -> Tensor:
        if not self.strength or "quantiles" not in reference:
            return images
        wide = images.float()
        target = reference["quantiles"].to(images.device)
        matched = torch.lerp(wide, match(wide, inside_of(images, valid), target), self.strength)
        return torch.where(valid[:, None], matched.to(images.dtype), images)


def match(images: Tensor, inside: Tensor, target: Tensor) -> Tensor:
    """Gives every channel of every image the distribution with given quantiles.

    Args:
        images: (N, C, H, W), float32.
        inside: (N, 1, H, W), bool, which pixels count.
        target: (C, K), rising, quantiles at even levels from 0 to 1.

    Returns:
        (N, C, H, W).
    """
    low, width = channel_range(images, inside)
    bins = bins_of(images, low, width)
    counts = histogram(bins, inside)
    rank = (counts.cumsum(-1) - counts / 2) / counts.sum(-1, keepdim=True)  # (N, C, BINS); equals share the middle one
    return at_levels(target, rank).gather(-1, bins).reshape(images.shape)


def quantiles_of(images: Tensor, inside: Tensor, count: int) -> Tensor:
    """Returns quantiles at even levels from 0 to 1 of every image and channel: (N, C, count), float32, rising.

    Within a bin of the histogram they are a straight line.
    """
    low, width = channel_range(images, inside)
    counts = histogram(bins_of(images, low, width), inside)
    upto = counts.cumsum(-1)
    wanted = upto[..., -1:] * torch.linspace(0, 1, count, device=images.device)  # (N, C, count), a number of pixels
    place = torch.searchsorted(upto, wanted).clamp_max(BINS - 1)
    own = counts.gather(-1, place)
    within = 1 - (upto.gather(-1, place) - wanted) / own.clamp_min(1)
    return low + width * (place + within) / BINS


def channel_range(images: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the least value of every channel over pixels that count, and the width of its range: (N, C, 1) each."""
    low = images.masked_fill(~inside, torch.inf).flatten(2).amin(-1, keepdim=True)
    high = images.masked_fill(~inside, -torch.inf).flatten(2).amax(-1, keepdim=True)
    return low, high - low


def bins_of(images: Tensor, low: Tensor, width: Tensor) -> Tensor:
    """Returns the bin of every pixel: (N, C, H W), int64; what is outside the range is in an outermost one."""
    return ((images.flatten(2) - low) / width.clamp_min(FLAT) * BINS).long().clamp(0, BINS - 1)


def histogram(bins: Tensor, inside: Tensor) -> Tensor:
    """Counts the pixels of every bin that count: (N, C, BINS), float32."""
    weights = inside.flatten(2).float().expand(bins.shape)
    return torch.zeros(*bins.shape[:2], BINS, device=bins.device).scatter_add(-1, bins, weights)


def at_levels(quantiles: Tensor, levels: Tensor) -> Tensor:
    """Evaluates quantile functions between their even levels: (C, K) at (N, C, n) in [0, 1] to (N, C, n)."""
    place = levels * (quantiles.shape[-1] - 1)
    low = place.floor().long().clamp(0, quantiles.shape[-1] - 2)
    each = quantiles.expand(len(levels), -1, -1)
    return torch.lerp(each.gather(-1, low), each.gather(-1, low + 1), place - low)
