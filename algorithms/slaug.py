"""SLAug: saliency-balancing location-scale augmentation (Su et al., arXiv 2211.15564).

An image is restyled as a whole (global), or every class in it on its own (local), which changes the contrast between
classes as another modality would. Labels say where, never what comes out: masks do not change.

    x' = clip(s B(x) + t)    B a random Bezier curve over the range of a region;    t ~ N(0, shift^2) ranges of x
                             s ~ N(1, scale^2), clipped to 1 - scale and 1 + scale
    GLA: the image is one region, and B rises       LLA: a region a class, and B falls with probability falling
    saliency: L(x_GLA) + L(S x_GLA + (1 - S) x_LLA),    S in [0, 1] the smoothed size of dL(x_GLA) / dx

Without ``saliency`` a coin says whether an image gets GLA or LLA, and there is one pass.

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, as FedAvg. Cost: 1.09 times FedAvg's time; with
``saliency`` 2.6, for the gradient and a second pass. Settings that matter: ``local`` (a network may learn to find the
seams between classes); ``saliency``, which is part of the paper's method.

Released code: in LLA the background always falls, and pixels within 0.01 of black keep their values.

Deviations: ``saliency`` is off by default, as it more than doubles the time. The paper's images are in [0, 1]; here
ranges are every image's own over valid pixels and all channels. Every class falls with the same probability. So that no
region is clipped away, the authors bound t by a region's 20th and 80th percentile; here by its mean less and plus its
deviation. S is pooled to 18 x 18 cells as in the authors' code, then interpolated bilinearly, not by B-splines. What is
not valid keeps its values, which stands for the authors' test for black.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch, Step
from fedlight.plugins.bezier import ENTRIES, curve_tables, draw_points, entry_of, turned
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.image_style import ImageStyle, put_back
from fedlight.plugins.intensity import FLAT, inside_of, valid_range

CELLS = 18
"""Cells along a side to which the saliency is pooled."""


class SLAug(ImageStyle):
    """Restyles images, as a whole or class by class, by curves, scales and shifts of their intensities.

    Args:
        p: Probability that an image is restyled; 0 gives FedAvg.
        local: Probability that a restyled image is restyled class by class; not used with ``saliency``.
        falling: Probability that the curve of a class falls.
        scale: Standard deviation of the scale, and how far from 1 it may be.
        shift: Standard deviation of the shift as a share of the image's range.
        saliency: Trains on the image restyled as a whole and on its fusion with the one restyled class by class.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self,
        p: float = 1.0,
        local: float = 0.5,
        falling: float = 0.5,
        scale: float = 0.1,
        shift: float = 0.5,
        saliency: bool = False,
    ) -> None:
        self.p = p
        self.local = local
        self.falling = falling
        self.scale = scale
        self.shift = shift
        self.saliency = saliency
        self.stages = ("input",) if saliency else ()

    def validate(self) -> None:
        super().validate()
        for name, value in (("local", self.local), ("falling", self.falling)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], got {value}. The default is 0.5.")
        for name, value in (("scale", self.scale), ("shift", self.shift)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}. 0 leaves it out.")

    # --- styles ------------------------------------------------------------------------------------------------

    def transform_batch(self, batch: Batch) -> Batch:
        self._local: Tensor | None = None
        if not self.p:
            return batch
        rows = self.draw_rows(len(batch["image"]))
        styled: Batch = {**batch, "image": self.restyle_some(batch, rows)}
        if self.saliency and len(rows):
            self._local = put_back(batch, rows, self._by_class)
        return styled

    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        if not self.saliency:
            apart = torch.rand(len(images), generator=self.generator) < self.local
            return self._moved(images, masks, valid, apart)
        whole = torch.zeros(len(images), dtype=torch.bool)
        self._by_class = self._moved(images, masks, valid, ~whole)
        return self._moved(images, masks, valid, whole)

    def _moved(self, images: Tensor, masks: Tensor, valid: Tensor, apart: Tensor) -> Tensor:
        """Moves intensities, class by class in those images (n,) where classes are to be told apart."""
        regions = masks * apart.to(masks.device)[:, None, None]
        n, k = len(images), int(masks.max()) + 1
        falls = (torch.rand(n, k, generator=self.generator) < self.falling) & apart[:, None]
        curves = turned(draw_points(n * k, self.generator), falls.flatten())
        tables = curve_tables(curves).reshape(n, k, -1).to(images.device)
        scale = (1 + self.scale * torch.randn(n, k, generator=self.generator)).clamp(1 - self.scale, 1 + self.scale)
        shift = self.shift * torch.randn(n, k, generator=self.generator)
        inside = inside_of(images, valid)
        return location_scale(images, regions, inside, tables, scale.to(images.device), shift.to(images.device))

    # --- fusion ------------------------------------------------------------------------------------------------

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        return x.detach().requires_grad_() if self.saliency else x

    def penalty(self, step: Step) -> Tensor | None:
        if self._local is None:
            return None
        x = step.features["input"]
        (gradient,) = torch.autograd.grad(step.loss, x, retain_graph=True)
        share = saliency_map(gradient)
        fused = share * x.detach() + (1 - share) * self._local
        return step.criterion(step.forward(fused.to(x.dtype), None).logits, step.masks, step.valid)

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._local, self._by_class = None, torch.empty(0)
        return super().on_round_end(module)


def location_scale(
    images: Tensor, regions: Tensor, inside: Tensor, tables: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    """Moves the intensities of every region for given draws.

    Args:
        images: (N, C, H, W), float32.
        regions: (N, H, W), int64, below K.
        inside: (N, 1, H, W), bool, which pixels count.
        tables: (N, K, ENTRIES + 1), a curve from [0, 1] to [0, 1] for every region.
        scale: (N, K), s.
        shift: (N, K), t as a share of the image's range.

    Returns:
        (N, C, H, W), within the range that the image has.
    """
    low, width = region_range(images, regions, inside, tables.shape[1])  # (N, K)
    places = entry_of((images - spread(low, regions)) / spread(width, regions).clamp_min(FLAT))
    heights = tables.flatten(1).gather(1, (regions[:, None] * (ENTRIES + 1) + places).flatten(1)).reshape(images.shape)
    mapped = spread(low, regions) + spread(width, regions) * heights
    bottom, span = valid_range(images, inside)  # (N, 1, 1, 1)
    shift = bounded(shift * span.flatten(1), mapped, regions, inside, bottom.flatten(1), span.flatten(1))
    moved = bottom + (mapped - bottom) * spread(scale, regions) + spread(shift, regions)
    return moved.clamp(bottom, bottom + span)


def bounded(shift: Tensor, mapped: Tensor, regions: Tensor, inside: Tensor, bottom: Tensor, span: Tensor) -> Tensor:
    """Bounds shifts (N, K) so that mean - deviation and mean + deviation of a region stay in the range (N, 1)."""
    mean, std = region_moments(mapped, regions, inside, shift.shape[1])
    least = (bottom - mean + std).clamp_max(0)
    most = (bottom + span - mean - std).clamp_min(0)
    return shift.clamp(least, most)


def spread(values: Tensor, regions: Tensor) -> Tensor:
    """Gives every pixel the value of its region: (N, K) and (N, H, W) to (N, 1, H, W)."""
    return values.gather(1, regions.flatten(1)).reshape(regions.shape)[:, None]


def region_range(images: Tensor, regions: Tensor, inside: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the least value of every region over pixels that count, and the width of its range: (N, K) each.

    Both are 0 for a region without a pixel.
    """
    index, out = regions.flatten(1), ~inside.flatten(1)
    start = torch.full((len(images), k), torch.inf, device=images.device)
    low = start.scatter_reduce(1, index, images.amin(1).flatten(1).masked_fill(out, torch.inf), "amin")
    high = (-start).scatter_reduce(1, index, images.amax(1).flatten(1).masked_fill(out, -torch.inf), "amax")
    there = low <= high
    return torch.where(there, low, 0), torch.where(there, high - low, 0)


def region_moments(images: Tensor, regions: Tensor, inside: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of every region over pixels that count, all channels: (N, K) each, 0 without any."""
    index, weights = regions.flatten(1), inside.flatten(1).float()
    empty = torch.zeros(len(images), k, device=images.device)
    count, total, squares = (
        empty.scatter_add(1, index, weights * values.flatten(1))
        for values in (torch.ones_like(weights), images.mean(1), images.square().mean(1))
    )
    mean = total / count.clamp_min(1)
    return mean, (squares / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt()


def saliency_map(gradient: Tensor) -> Tensor:
    """Returns where the loss depends on an image: (N, C, H, W) to (N, 1, H, W), smooth, from 0 to 1."""
    norm = gradient.float().square().mean(1, keepdim=True).sqrt()
    norm = norm / norm.amax((2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)  # gradients are tiny
    size = (norm.shape[-2], norm.shape[-1])
    smooth = F.interpolate(F.adaptive_avg_pool2d(norm, CELLS), size=size, mode="bilinear", align_corners=True)
    low, width = valid_range(smooth, torch.ones_like(smooth, dtype=torch.bool))
    return (smooth - low) / width.clamp_min(FLAT)
