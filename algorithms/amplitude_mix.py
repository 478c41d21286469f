"""AmplitudeMix: low frequencies take on the amplitude of another site (continuous frequency space, arXiv 2103.06030).

    F(x) = A(x) exp(i P(x))
    A'   = (1 - lambda) A(x) + lambda A_s      where |k_y| <= b and |k_x| <= b,  b = floor(window min(H, W))
    x'   = F^-1(A' exp(i P(x)))                lambda ~ strength U(0, 1), one an image; s is another site

This is the interpolation of FedDG-ELCFS (Liu et al., section 3.2), without its episodic training.

Deviations: ELCFS sends the amplitude of every single image, from which images can be recovered; here A_s is the mean
amplitude over a site's images of a round, and only its window is sent, half of it, as images are real. Amplitudes are
divided by H W, so a window means the same for images of another size, but all windows must have the same b. The
authors' code runs with b = 0, which only shifts brightness; here that is refused. What is not valid would put its own
edges into the spectrum: it is filled with the image's valid mean for the transform and keeps its values afterwards. A
frequency without amplitude has no phase and stays as it is. The first round, having no amplitudes, is FedAvg's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import ceil, floor
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.data_format import DataFormat
from fedlight.plugins import Batch, StyleAugmentation
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.style import require_probability
from fedlight.statistics import channel_moments
from fedlight.update import Broadcast, RoundContext

NO_PHASE = 1e-6
"""Amplitudes below this, in units of intensity, are rounding errors."""

log = logging.getLogger("fedlight")


class AmplitudeMix(StyleAugmentation):
    """Mixes the low-frequency amplitudes of images with the mean amplitudes of other sites.

    Amplitudes are measured on images as this plugin gets them: list it before others that change images.

    Args:
        p: Probability that an image is mixed; 0 gives FedAvg.
        window: Half-width of the window as a share of the shorter side, in (0, 0.5).
        strength: Upper end of lambda, in [0, 1]; 0 gives FedAvg.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(self, p: float = 0.5, window: float = 0.1, strength: float = 1.0, min_images: int = 5) -> None:
        self.p = p
        self.window = window
        self.strength = strength
        self.min_images = min_images

    def validate(self) -> None:
        require_probability(self.p)
        if not 0 < self.window < 0.5:
            raise ValueError(f"window must be in (0, 0.5), got {self.window}. The default is 0.1.")
        if self.min_images < 1:
            raise ValueError(f"min_images must be at least 1, got {self.min_images}. The default is 5.")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be in [0, 1], got {self.strength}. 1 mixes up to the other site's own.")

    def check(self, data: DataFormat) -> None:
        if self.p and self.strength:
            half_width(self.window, *data.train_size)

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        bank = broadcast.shared.get(self.instance_id, {})
        self._donors = [bank[key] for key in sorted(bank) if key != f"{site}/amplitude"]  # (C, 2b+1, b+1) each
        self._sum: Tensor | None = None
        self._images = 0
        self._cases: set[str] = set()

    def transform_batch(self, batch: Batch) -> Batch:
        if not self.p or not self.strength:
            return batch
        images, valid = batch["image"], batch["valid"][:, None]
        b = half_width(self.window, images.shape[-2], images.shape[-1])
        filled = torch.where(valid, images, channel_moments(images, batch["valid"])[0])
        spectrum = torch.fft.rfft2(filled.float(), norm="forward")
        self._measure(low_frequencies(spectrum, b).abs(), batch)
        share = self.strength * torch.rand(len(images), generator=self.generator)
        chosen = torch.rand(len(images), generator=self.generator) < self.p
        donor = torch.randint(max(len(self._donors), 1), (len(images),), generator=self.generator)
        if not self._donors or not bool(chosen.any()):
            return batch
        others = torch.stack([other.cpu() for other in self._donors])[donor].to(images.device)
        mixed = mix(spectrum, others, share.to(images.device), b, (images.shape[-2], images.shape[-1]))
        changed = valid & chosen.to(images.device)[:, None, None, None]
        return {**batch, "image": torch.where(changed, mixed.to(images.dtype), images)}

    def _measure(self, amplitude: Tensor, batch: Batch) -> None:
        seen = batch["valid"].flatten(1).any(1)  # (N,), an image without a valid pixel says nothing
        total = amplitude[seen].double().sum(0)
        self._sum = total if self._sum is None else self._sum + total
        self._images += int(seen.sum())
        self._cases.update(case for case, usable in zip(batch["case"], seen.tolist(), strict=True) if usable)

    def on_round_end(self, module: LightningModule) -> Statistics:
        total, self._sum, self._donors = self._sum, None, []
        if total is None or not self._images or len(self._cases) < self.min_images:
            return {}
        return {"amplitude": (total / self._images).float().cpu()}

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._fresh: dict[str, Tensor] = {}

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        window = shared["amplitude"]
        for other, known in {**self._previous, **self._fresh}.items():
            if known.shape != window.shape:
                shapes = f"{tuple(window.shape)} from {site} and {tuple(known.shape)} for {other}"
                raise ValueError(f"amplitude windows must be alike, got {shapes}. Train on images of one size.")
        self._fresh[f"{site}/amplitude"] = window

    def finish(self) -> Statistics:
        if self.p and self.strength and not self._fresh and not self._previous:
            log.warning("AmplitudeMix is idle: no site saw %d different images (min_images)", self.min_images)
        return {**self._previous, **self._fresh}


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


def low_frequencies(spectrum: Tensor, b: int) -> Tensor:
    """Returns the window |k_y| <= b, 0 <= k_x <= b of a real image's spectrum: (N, C, 2b+1, b+1), k_y from -b."""
    rows = torch.arange(-b, b + 1, device=spectrum.device)
    return spectrum[..., rows, : b + 1]


def mix(spectrum: Tensor, amplitude: Tensor, share: Tensor, b: int, size: tuple[int, int]) -> Tensor:
    """Returns images whose window has mixed amplitudes and whose phases are kept.

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
