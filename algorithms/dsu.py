"""DSU: feature statistics with uncertainty (Li et al., arXiv 2202.03958).

The mean and deviation of a channel are taken as draws from a normal distribution whose width is how much the images of
the batch differ in them, and drawn anew.

    beta  = mu(x)    + eps_mu    S_mu          S_mu^2    = variance over the batch of mu(x)         eps ~ N(0, 1), one
    gamma = sigma(x) + eps_sigma S_sigma       S_sigma^2 = variance over the batch of sigma(x)      a channel and image
    DSU(x) = gamma (x - mu(x)) / sigma(x) + beta

Shared: nothing. The batch is of one site. Privacy: nothing but the model leaves a site. Secure aggregation: yes, no
message is added. Cost: 1.02 times FedAvg's time. Settings that matter: ``p``; a batch of eight or more, as S is
estimated from it. Images of one site differ little, so S is small: FedFA widens it by how much sites differ.

Released code (``released``): all variances are unbiased, those over pixels and those over the batch, so a batch of one
is not a number; the paper divides by HW and B. Here a batch with fewer than two images that have a valid pixel stays
as it is, either way.

Deviations: the authors augment a ResNet at six places, from its first convolution to its last stage; here early
stages are the default, as for MixStyle. In their code mu, sigma and S carry a gradient; here they do not, and they
count valid pixels only, while what is not valid keeps its values. gamma may be negative, as in the paper, which inverts
the contrast of a channel. ``eps`` is added to every variance before its root. Every stage tosses its own coin for the
whole batch, as the authors' code does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.batch_style import BatchStyle
from fedlight.plugins.style import change_style, where_valid
from fedlight.statistics import channel_moments, valid_at


class DSU(BatchStyle):
    """Draws feature statistics anew, as widely as they differ within the batch.

    Args:
        p: Probability that a batch is augmented at a stage; 0 gives FedAvg.
        stages: Where features are augmented.
        released: Takes unbiased variances, as the authors' code does.
        eps: Added to variances before the root.
    """

    example_independent = False

    def __init__(
        self,
        p: float = 0.5,
        stages: Sequence[str] = ("encoder1", "encoder2"),
        released: bool = False,
        eps: float = 1e-6,
    ) -> None:
        self.p = p
        self.stages = stages
        self.released = released
        self.eps = eps

    def put_on(self, x: Tensor, valid: Tensor) -> Tensor:
        noise = torch.randn(len(x), 2, x.shape[1], 1, 1, generator=self.generator)
        return jitter(x, valid, noise.to(x.device), self.eps, self.released)


def jitter(x: Tensor, valid: Tensor, noise: Tensor, eps: float, unbiased: bool = False) -> Tensor:
    """Computes DSU for given draws.

    Args:
        x: (N, C, h, w).
        valid: (N, H, W), bool; an image without a valid pixel does not count in S.
        noise: (N, 2, C, 1, 1), eps_mu and eps_sigma, standard normal.
        eps: Added to variances before the root.
        unbiased: Whether variances are unbiased.

    Returns:
        (N, C, h, w), in the dtype of ``x``; ``x`` itself if fewer than two images count.
    """
    usable = valid.flatten(1).any(1)
    if int(usable.sum()) < 2:
        return x
    style = style_of(x.detach(), valid, eps, unbiased)
    scope = (style[usable].var(0, unbiased=unbiased) + eps).sqrt()  # (2, C, 1, 1), S_mu and S_sigma
    mean, std = style.unbind(1)
    beta, gamma = (style + noise * scope).unbind(1)
    return where_valid(valid, change_style(x, mean, std, beta, gamma), x)


def style_of(x: Tensor, valid: Tensor, eps: float, unbiased: bool = False) -> Tensor:
    """Returns mu and sigma of every image over valid pixels: (N, C, h, w) to (N, 2, C, 1, 1), float32."""
    mean, variance = channel_moments(x, valid)
    if unbiased:
        count = valid_at(valid, (x.shape[-2], x.shape[-1])).sum((2, 3), keepdim=True)  # (N, 1, 1, 1)
        variance = variance * count / (count - 1).clamp_min(1)
    return torch.stack([mean, (variance + eps).sqrt()], 1)
