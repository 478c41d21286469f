"""BigAug: stacked strong augmentation (Zhang et al., arXiv 1906.03347).

What differs between institutions is much like what one can do to an image: its quality, its look and where things lie.
Every transform has a coin of its own, and those that fall are stacked, in this order. This is the baseline that methods
for unseen institutions are compared with.

    u = (x - least x) / (greatest x - least x)                       each of the following with probability p
    sharpen       u <- G_1 u + a (G_1 u - G_2 G_1 u), in [0, 1]      a ~ U(10, 30), sigma_1 ~ U(0.5, 1), sigma_2 = 0.5
    blur          u <- G u                                           sigma ~ U(0.25, 1.5) pixels
    noise         u <- u + N(0, s^2)                                 s ~ U(0, 0.1)
    brightness    u <- u + b                                         b ~ U(-0.1, 0.1)
    gamma         u <- u^g, u in [0, 1]                              log g ~ U(log 0.5, log 4.5)
    perturbation  u <- (1 + c) u + d                                 c, d ~ U(-0.1, 0.1)

G is a Gaussian blur over valid pixels. These are those six of the paper's nine that change intensities. The other
three, rotation, scaling and deformation, move masks too and so belong to the data: ``configs/algorithms/bigaug.yaml``
appends them to ``data.transforms``, and ``--federation.plugins+=BigAug`` is without them.

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, as FedAvg. Cost: 1.03 times FedAvg's time, 1.06 with
the transforms of the config. Settings that matter: ``p`` and ``gamma``; strong augmentation needs more rounds.

Deviations: of the paper's g ~ U(0.5, 4.5), seven in eight darken; here log g is uniform between the same bounds, and
two in three do. The paper's images are scaled to [0, 1]; here u is every image's own range over valid pixels and all
channels, so that ``data.normalise`` may be what it is, and x keeps that range but for noise, brightness and
perturbation. s is our choice. One number an image, for all its channels. Images are 2-D; scaling is by 0.7 to 1.4
instead of 0.4 to 1.6, which leaves little of a small image, and the deformation is a distorted grid, which fits images
of any size. What is not valid keeps its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.convolution import blurred
from fedlight.plugins.image_style import ImageStyle
from fedlight.plugins.intensity import FLAT, inside_of, valid_range

Bounds = tuple[float, float]


class BigAug(ImageStyle):
    """Sharpens, blurs, adds noise and changes brightness, gamma and contrast, each with a probability of its own.

    Args:
        p: Probability of every transform, for every image on its own; 0 gives FedAvg.
        sharpen: Least and greatest strength of sharpening, a.
        blur: Least and greatest standard deviation of the blur in pixels.
        noise: Least and greatest standard deviation of the noise as a share of the image's range.
        brightness: Greatest shift, up or down, as a share of the image's range.
        gamma: Least and greatest exponent; 1 is none.
        perturbation: Greatest relative change of the contrast and shift with it.
    """

    example_independent = True
    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self,
        p: float = 0.5,
        sharpen: Bounds = (10.0, 30.0),
        blur: Bounds = (0.25, 1.5),
        noise: Bounds = (0.0, 0.1),
        brightness: float = 0.1,
        gamma: Bounds = (0.5, 4.5),
        perturbation: float = 0.1,
    ) -> None:
        self.p = p
        self.sharpen = sharpen
        self.blur = blur
        self.noise = noise
        self.brightness = brightness
        self.gamma = gamma
        self.perturbation = perturbation

    def validate(self) -> None:
        super().validate()
        for name, least in (("sharpen", 0.0), ("blur", 0.01), ("noise", 0.0), ("gamma", 0.01)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name} must rise from {least} or more, got {low} to {high}. Give one value twice.")
        for name in ("brightness", "perturbation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}. The paper uses 0.1.")

    def draw_rows(self, n: int) -> Tensor:
        """Tosses for every transform and returns the images that get any."""
        tossed = torch.rand(n, 6, generator=self.generator) < self.p
        some = tossed.any(1)
        self._tossed = tossed[some]  # (n, 6), of the images that are restyled
        return some.nonzero().flatten()

    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        inside = inside_of(images, valid)
        low, width = valid_range(images, inside)
        u = (images - low) / width.clamp_min(FLAT)
        changes = (self._sharpen, self._blur, self._noise, self._brighten, self._gamma, self._perturb)
        for change, chosen in zip(changes, self._tossed.unbind(1), strict=True):
            rows = chosen.nonzero().flatten().to(u.device)
            if len(rows):
                u = u.index_copy(0, rows, change(u[rows], inside[rows]))
        return low + width * u

    def _sharpen(self, u: Tensor, inside: Tensor) -> Tensor:
        sigma, strength = self._draw(u, (0.5, 1.0)), self._draw(u, self.sharpen)
        return sharpened(u, inside, sigma.flatten(), strength)

    def _blur(self, u: Tensor, inside: Tensor) -> Tensor:
        return blurred(u, inside, self._draw(u, self.blur).flatten())

    def _noise(self, u: Tensor, inside: Tensor) -> Tensor:
        noise = torch.randn(u.shape, generator=self.generator).to(u.device)
        return u + self._draw(u, self.noise) * noise

    def _brighten(self, u: Tensor, inside: Tensor) -> Tensor:
        return u + self._draw(u, (-self.brightness, self.brightness))

    def _gamma(self, u: Tensor, inside: Tensor) -> Tensor:
        low, high = self.gamma
        return u.clamp(0, 1) ** self._draw(u, (log(low), log(high))).exp()

    def _perturb(self, u: Tensor, inside: Tensor) -> Tensor:
        contrast, shift = (self._draw(u, (-self.perturbation, self.perturbation)) for _ in range(2))
        return (1 + contrast) * u + shift

    def _draw(self, u: Tensor, bounds: Bounds) -> Tensor:
        """Draws a number for every image: (n, 1, 1, 1)."""
        return self.uniform(bounds, len(u), 1, 1, 1).to(u.device)


def sharpened(u: Tensor, inside: Tensor, sigma: Tensor, strength: Tensor) -> Tensor:
    """Sharpens images for given draws, within [0, 1].

    Args:
        u: (N, C, H, W), in [0, 1].
        inside: (N, 1, H, W), bool, which pixels count.
        sigma: (N,), of the first blur, in pixels.
        strength: (N, 1, 1, 1), a.

    Returns:
        (N, C, H, W).
    """
    smooth = blurred(u, inside, sigma)
    return (smooth + strength * (smooth - blurred(smooth, inside, torch.full_like(sigma, 0.5)))).clamp(0, 1)
