"""HarmoFL: harmonised amplitudes and flat minima (Jiang et al., arXiv 2112.10775).

Every image, in training and wherever the model is used, gets the federation's mean amplitude, so that all sites look
through one device (local drift). Gradients are taken at perturbed weights, so that sites meet in flat minima (global).

    F(x) = A(x) exp(i P(x))    x' = F^-1(A exp(i P(x)))   where |k_y| <= b, |k_x| <= b,   b = floor(window min(H, W))
    A    = mean over sites of the mean amplitude of their images, from the first round, then frozen
    w   <- step of the site's optimizer from w with the gradient grad F_k(w + delta),    delta = alpha g / ||g||

Shared: once, C (2b+1) (b+1) numbers up, and A down in every round; colour images of 64 pixels (b = 6) make 1092 bytes
up and 1092 down with four sites. Privacy: a mean over at least ``min_images`` images and then over sites. Secure
aggregation: yes, the server needs the sum only. Cost: a second pass in every step and two Fourier transforms an
image, also in prediction, 1.97 times FedAvg's time. Settings that matter: ``window``, ``alpha``. Not together with
other plugins that take gradients elsewhere (FedSAM).

Released code: amplitudes are exchanged at b = 0 only, which sets every channel's mean to the federation's:
``released``. Its momentum is an integer and so 0, and a site's amplitude is that of its first batch. Its weight
perturbation is SAM's step, as here.

Deviations: the paper replaces the amplitude without naming a window; replacing all of it loses the contrast of edges,
so a window is kept. Its running mean of batches is a mean over images here. Sites that join after the first round, and
the unseen one, do not count in A. Every image needs the grid that was trained on, so patches are refused. What is not
valid is filled with the valid mean for the transform and keeps its values; a frequency without amplitude has no phase
and stays. The first round trains on plain images, as A is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fedlight.data_format import DataFormat
from fedlight.plugins import Batch
from fedlight.plugins.amplitude import beyond_window, half_width, low_frequencies, mix, require_window, spectrum_of
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.plugins.mean_reference import MeanReference
from fedlight.plugins.sharpness import SharpnessAware, sam_perturbation


class HarmoFL(MeanReference, SharpnessAware):
    """Gives every image the federation's mean amplitude and takes gradients at perturbed weights.

    Args:
        alpha: Length of the perturbation of the weights; 0 takes gradients where the model is.
        normalise: Whether amplitudes are replaced; without, and with alpha 0, this is FedAvg.
        window: Half-width of the window as a share of the shorter side, in (0, 0.5).
        released: Replaces only the mean, by that of every site's first batch, as the authors' code does.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    null: ClassVar[Mapping[str, Any]] = {"alpha": 0.0, "normalise": False}
    measured = "amplitudes of the lowest frequencies of the images"

    def __init__(
        self,
        alpha: float = 0.05,
        normalise: bool = True,
        window: float = 0.1,
        released: bool = False,
        min_images: int = 5,
    ) -> None:
        self.alpha = alpha
        self.normalise = normalise
        self.window = window
        self.released = released
        self.min_images = min_images

    @property
    def rho(self) -> float:  # type: ignore[override]  # what sharpness-aware methods call alpha
        """Length of the perturbation."""
        return self.alpha

    def validate(self) -> None:
        super().validate()
        if not self.alpha >= 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}. The paper uses 0.05.")
        require_window(self.window)

    def discloses(self) -> Disclosure | None:
        known = super().discloses()
        if known is None:
            return None
        protection = f"low-frequency window only, {known.protection}"
        return replace(known, protection=protection, beyond=beyond_window(self.window) or known.beyond)

    def check(self, data: DataFormat) -> None:
        if not self.normalise:
            return
        if data.patches:
            raise ValueError("normalise must be off where patches are trained, got true. Train on whole images.")
        self._half_width(*data.train_size)

    # --- wherever images are seen -------------------------------------------------------------------------------

    def harmonise(self, images: Tensor, valid: Tensor, reference: Statistics) -> Tensor:
        if not self.normalise or "amplitude" not in reference:
            return images
        amplitude = reference["amplitude"].to(images.device)  # (C, 2b+1, b+1)
        b, size = amplitude.shape[-1] - 1, (images.shape[-2], images.shape[-1])
        whole = torch.ones(len(images), device=images.device)
        mixed = mix(spectrum_of(images, valid), amplitude[None], whole, b, size)
        return torch.where(valid[:, None], mixed.to(images.dtype), images)

    # --- at the site -------------------------------------------------------------------------------------------

    def active(self) -> bool:
        return self.normalise

    def describe(self, images: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
        b = self._half_width(images.shape[-2], images.shape[-1])
        return {"amplitude": low_frequencies(spectrum_of(images, valid), b).abs()}

    def measure(self, batch: Batch) -> None:
        if not (self.released and self._seen):  # as released, a site's amplitude is that of its first batch
            super().measure(batch)

    def _half_width(self, height: int, width: int) -> int:
        return 0 if self.released else half_width(self.window, height, width)

    def perturbation(self, params: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return sam_perturbation(gradients, self.alpha)
