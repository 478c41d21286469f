"""CCST: cross-client style transfer (Chen et al., arXiv 2210.00912).

Sites share the style of their images, and every site trains on its own images in the others' styles. All styles are
then seen at all sites.

    AdaIN(x) = sigma_s (x - mu(x)) / sigma(x) + mu_s
    overall:  mu_s = mean over images of mu       sigma_s^2 = mean of sigma^2 + variance of mu     one style a site
    single:   (mu_s, sigma_s) = those of one image, drawn from the bank_size that a site gives away

Shared: overall 2 numbers a channel, 8 C bytes up and 8 C a site down, at the input of colour images 24 bytes up and 96
down with four sites; single ``bank_size`` times as much. Privacy: overall is two moments over at least ``min_images``
images. single gives away statistics of single patients' images; it must be asked for and warns. Secure aggregation: no,
the server keeps every site's style apart. Cost: two passes over the images a step, 1.01 times FedAvg's time. Settings
that matter: ``variant``, ``stages``.

Released code: the variance is unbiased, the paper's is not.

Deviations: the paper restyles images once, before training, in relu4_1 features of a pretrained VGG, and decodes them
with a pretrained decoder, K = 3 styles an image beside the image itself. Here neither network is needed: statistics are
those of the channels of the image (stage "input") or of early features, and every step draws anew; p = K / (K + 1)
keeps the paper's share of styled images. AdaIN draws around a site's style; this takes it as it is. Statistics count
valid pixels only, what is not valid keeps its values, and the first round is FedAvg's. At the input, images that are
standardised one by one have no style to exchange.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from fedlight.plugins.disclosure import Disclosure
from fedlight.plugins.style_bank import MomentBank


class CCST(MomentBank):
    """Gives images the overall style of another site, or that of one of its images.

    Args:
        p: Probability that an image is restyled; 0 gives FedAvg.
        variant: "overall" shares one style a site; "single" gives away the styles of single images.
        bank_size: Images whose styles a site gives away; only for "single".
        stages: Where; "input" is the image itself.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = True

    def __init__(
        self,
        p: float = 0.75,
        variant: Literal["overall", "single"] = "overall",
        bank_size: int = 16,
        stages: Sequence[str] = ("input",),
        min_images: int = 5,
    ) -> None:
        self.p = p
        self.variant = variant
        self.bank_size = bank_size
        self.stages = stages
        self.min_images = min_images

    def validate(self) -> None:
        super().validate()
        if self.bank_size < 1:
            raise ValueError(f"bank_size must be at least 1, got {self.bank_size}. The default is 16.")
        if self.p and self.variant == "single":
            warnings.warn(
                "CCST with variant single sends statistics of single patients' images to every site; use overall to "
                "share one style a site",
                stacklevel=2,
            )

    def discloses(self) -> Disclosure | None:
        known = super().discloses()
        if known is None or self.variant == "overall":
            return known
        return replace(known, protection="none", beyond=f"means and spreads of {self.bank_size} single images")

    def means_only(self) -> bool:
        return self.variant == "overall"

    def of_squares(self, mean: Tensor, square: Tensor) -> Tensor:
        return torch.stack([mean[0], (square.sum(0) - mean[0].square()).clamp_min(0).sqrt()])

    def summarise(self, styles: Tensor) -> Tensor:
        return overall(styles) if self.variant == "overall" else self._sample(styles)

    def _sample(self, styles: Tensor) -> Tensor:
        """Draws ``bank_size`` styles of single images, again if there are fewer: (bank_size, 2, C)."""
        order = torch.randperm(len(styles), generator=self.generator)
        rows = order[torch.arange(self.bank_size) % len(styles)]
        return styles[rows.to(styles.device)]

    def put_on(self, x: Tensor, own: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        if self.variant == "single":
            row = torch.randint(self.bank_size, (len(x),), generator=self.generator).to(x.device)
            others = others[torch.arange(len(x), device=x.device), row]  # (N, 2, C)
        return self.put_on_style(x, own, others)


def overall(styles: Tensor) -> Tensor:
    """Returns mu and sigma of all images together by the law of total variance: (n, 2, C) to (2, C)."""
    means, stds = styles.unbind(1)
    return torch.stack([means.mean(0), (stds.square().mean(0) + means.var(0, unbiased=False)).sqrt()])
