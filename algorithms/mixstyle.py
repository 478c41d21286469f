"""MixStyle: mixed channel statistics of two images of a batch (Zhou et al., arXiv 2104.02008, equations 5 to 7).

An image keeps its content and gets a style between its own and that of another image of its batch, so that the network
cannot rely on the style of single scans.

    sigma_mix = lambda sigma(x) + (1 - lambda) sigma(x~)
    mu_mix    = lambda mu(x)    + (1 - lambda) mu(x~)            lambda ~ Beta(alpha, alpha), one an image
    MixStyle(x) = sigma_mix (x - mu(x)) / sigma(x) + mu_mix

x~ is the batch in another order; mu and sigma are an instance's mean and standard deviation per channel.

Shared: nothing. The partner is an image of the same site. Privacy: as FedAvg. Secure aggregation: yes, no message is
added. Cost: 1.01 times FedAvg's time. Settings that matter: early stages, never the
bottleneck; ``p`` and ``alpha``; a batch of eight or more. Where all images of a site look alike, so do all partners:
CrossMixStyle takes them from other sites.

Released code: sigma is the root of an unbiased variance, which cancels but for ``eps``.

Deviations: every stage tosses its own coin for the whole batch, as the authors' code does; mu and sigma carry
no gradient and count valid pixels only, while the whole feature map is moved; a batch of one stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.batch_style import BatchStyle
from fedlight.plugins.style import draw_beta, mean_and_std, mixed, require_alpha


class MixStyle(BatchStyle):
    """Mixes the feature statistics of images of a batch at early stages.

    Args:
        p: Probability that a batch is mixed at a stage; 0 gives FedAvg.
        alpha: Of Beta(alpha, alpha); small values stay close to one of the two styles.
        stages: Early stages; the paper finds that late ones harm.
        eps: Added to variances before the root.
    """

    example_independent = False

    def __init__(
        self,
        p: float = 0.5,
        alpha: float = 0.1,
        stages: Sequence[str] = ("encoder1", "encoder2"),
        eps: float = 1e-6,
    ) -> None:
        self.p = p
        self.alpha = alpha
        self.stages = stages
        self.eps = eps

    def validate(self) -> None:
        super().validate()
        require_alpha(self.alpha)

    def put_on(self, x: Tensor, valid: Tensor) -> Tensor:
        partner = torch.randperm(len(x), generator=self.generator)
        share = draw_beta(self.alpha, len(x), self.generator).flatten()
        mean, std = mean_and_std(x, valid, self.eps)
        return mix(x, mean, std, share.to(x.device), partner.to(x.device))


def mix(x: Tensor, mean: Tensor, std: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """Computes MixStyle for given draws.

    Args:
        x: (N, C, h, w).
        mean: (N, C, 1, 1), of each instance.
        std: (N, C, 1, 1), of each instance, positive.
        share: (N,), lambda in [0, 1].
        partner: (N,), int64, who mixes with whom.

    Returns:
        (N, C, h, w), in the dtype of ``x``.
    """
    mixed_std = mixed(std, std[partner], share)
    mixed_mean = mixed(mean, mean[partner], share)
    return (mixed_std * (x - mean) / std + mixed_mean).to(x.dtype)
