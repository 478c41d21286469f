"""AmplitudeMix: low frequencies take on the amplitude of another site (Liu et al., arXiv 2103.06030).

The amplitude spectrum of an image holds much of its style, the phase its structure. Low frequencies are mixed with what
other sites share of theirs: the interpolation in continuous frequency space of FedDG-ELCFS (section 3.2), without its
episodic training.

    F(x) = A(x) exp(i P(x))
    A'   = (1 - lambda) A(x) + lambda A_s      where |k_y| <= b and |k_x| <= b,  b = floor(window min(H, W))
    x'   = F^-1(A' exp(i P(x)))                lambda ~ strength U(0, 1), one an image; s is another site
    A_s  ~ N(mean_s[A], spread^2 var_s[A])     over the images of site s, at least 0

Shared: the mean amplitude of a site's images in half a window, C (2b+1) (b+1) numbers, twice that with ``spread``;
colour images of 64 pixels (b = 6) make 1092 bytes up and 4368 down with four sites. Privacy: moments over at least
``min_images`` images, low frequencies only. Secure aggregation: no, the server keeps every site's amplitudes apart.
Cost: two Fourier transforms of the images a step, 1.01 times FedAvg's time. Settings that matter: ``window`` and ``p``.

Released code: FedDG-ELCFS runs with b = 0, which only shifts brightness; here that is refused. FACT, which mixes whole
spectra inside a site, cuts images to 8 bits.

Deviations: ELCFS sends the amplitude of every single image, from which images can be recovered; here A_s is drawn from
moments over a site's images of a round, and only its window is sent, half of it, as images are real. Frequencies are
drawn independently. Amplitudes are divided by H W, so a window means the same for images of another size, but all
windows must have the same b. What is not valid would put its own edges into the spectrum: it is filled with the image's
valid mean for the transform and keeps its values afterwards. A frequency without amplitude has no phase and stays as it
is. The first round, having no amplitudes, is FedAvg's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from fedlight.plugins import Batch
from fedlight.plugins.amplitude import mix, spectrum_of
from fedlight.plugins.amplitude_bank import AmplitudeBank
from fedlight.plugins.style import require_probability


class AmplitudeMix(AmplitudeBank):
    """Mixes the low-frequency amplitudes of images with those of other sites.

    Amplitudes are measured on images as this plugin gets them: list it before others that change images.

    Args:
        p: Probability that an image is mixed; 0 gives FedAvg.
        window: Half-width of the window as a share of the shorter side, in (0, 0.5).
        strength: Upper end of lambda, in [0, 1]; 0 gives FedAvg.
        spread: How far amplitudes are drawn around a site's mean; 0 takes the mean itself and shares half as much.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = True
    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self, p: float = 0.5, window: float = 0.1, strength: float = 1.0, spread: float = 0.0, min_images: int = 5
    ) -> None:
        self.p = p
        self.window = window
        self.strength = strength
        self.spread = spread
        self.min_images = min_images

    def active(self) -> bool:
        return self.p > 0 and self.strength > 0

    def validate(self) -> None:
        super().validate()
        require_probability(self.p)
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be in [0, 1], got {self.strength}. 1 mixes up to the other site's own.")

    def transform_batch(self, batch: Batch) -> Batch:
        if not self.active():
            return batch
        images, valid = batch["image"], batch["valid"]
        spectrum = spectrum_of(images, valid)
        self.measure(spectrum, batch)
        share = self.strength * torch.rand(len(images), generator=self.generator)
        chosen = torch.rand(len(images), generator=self.generator) < self.p
        if not self._donors or not bool(chosen.any()):
            return batch
        others = self.drawn(len(images)).to(images.device)
        size = (images.shape[-2], images.shape[-1])
        mixed = mix(spectrum, others, share.to(images.device), self.half_width(*size), size)
        changed = valid[:, None] & chosen.to(images.device)[:, None, None, None]
        return {**batch, "image": torch.where(changed, mixed.to(images.dtype), images)}
