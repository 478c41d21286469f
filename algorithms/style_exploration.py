"""StyleExploration: styles beyond those that any site has (from StableFDG, Park et al., arXiv 2311.00227).

An image keeps its style or takes another site's (style sharing), and then moves on, away from the federation's mean
style (style exploration), to where the unseen site may be.

    (mu, sigma) = those of x, or with probability 1/2 drawn from N(mean_s, var_s) of another site s
    mu'    = mu    + alpha (mu    - mean mu)                                              exploration by extrapolation
    sigma' = sigma + alpha (sigma - mean sigma), at least 0             x' = sigma' (x - mu(x)) / sigma(x) + mu'

Shared: as in AdaIN four numbers a channel and stage, 16 C bytes up and 16 C a site down; the default, encoder1 of
plain-16 (C = 16), makes 256 bytes up and 1024 down with four sites. Privacy: moments over at least ``min_images``
images. Secure aggregation: no, the server keeps every site's style apart. Cost: two passes over one feature map a step,
1.02 times FedAvg's time. Settings that matter: ``alpha``; 3 is the authors' value for photos and drawings, and far from
any real scanner, so the default here is 1.

Released code: sigma' may become negative, which inverts the contrast of a channel; here it stops at 0.

Deviations: the paper's mean is that of the batch, into which other clients' styles were put before; here it is the mean
over all sites' mean styles, so that an image does not depend on its neighbours. Class-wise oversampling, k-means over
styles, the mixing of the extended batch and the attention over classes are left out: they need one class an image.
Statistics count valid pixels only, what is not valid keeps its values, and the first round is FedAvg's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins.style_bank import MomentBank, not_negative
from fedlight.update import Broadcast


class StyleExploration(MomentBank):
    """Extrapolates the styles of images, their own or other sites', away from the federation's mean.

    Args:
        p: Probability that an image is restyled; 0 gives FedAvg.
        alpha: How far beyond a style, in units of its distance to the mean; 0 only shares styles.
        stages: Where, early.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = True

    def __init__(
        self, p: float = 0.5, alpha: float = 1.0, stages: Sequence[str] = ("encoder1",), min_images: int = 5
    ) -> None:
        self.p = p
        self.alpha = alpha
        self.stages = stages
        self.min_images = min_images

    def validate(self) -> None:
        super().validate()
        if len(self.stages) != 1:
            raise ValueError(
                f"stages must be one stage, got {', '.join(self.stages) or 'none'}. The default is encoder1."
            )
        if not self.alpha >= 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}. 0 only takes on other sites' styles.")

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        super().on_round_start(site, module, broadcast)
        styles = [style[:2].cpu() for _, style in sorted(self._bank.items())]
        self._center = torch.stack(styles).mean(0) if styles else None  # (2, C), over all sites, this one included

    def put_on(self, x: Tensor, own: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        assert self._center is not None  # there is a donor, so there is a bank
        keeps = (torch.rand(len(x), generator=self.generator) < 0.5).to(x.device)
        style = torch.where(keeps[:, None, None], own, self.drawn(others))
        return self.put_on_style(x, own, explore(style, self._center.to(x.device), self.alpha))


def explore(style: Tensor, center: Tensor, alpha: float) -> Tensor:
    """Extrapolates styles (N, 2, C) of mu and sigma from a centre (2, C); sigma stops at 0."""
    return not_negative(style + alpha * (style - center))
