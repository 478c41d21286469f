"""RandConv: images mixed with random convolutions of themselves (Xu et al., arXiv 2007.13003).

A convolution with random weights changes colours and local texture and keeps shapes. A network that cannot lean on
texture leans on what an unseen institution has too.

    RC_mix(x) = alpha (x * Theta) + (1 - alpha) x          with probability p, else x;     alpha ~ U(0, 1)
    Theta ~ N(0, 1 / (C k^2)), C x C x k x k               k drawn from kernel_sizes
    optional: + consistency mean_v KL(y_v || y)            over three views of an image, y the mean of their predictions

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, as FedAvg. Cost: 1.00 times FedAvg's time; with
``consistency`` 3.0, for two further passes. Settings that matter: ``p``; ``kernel_sizes``, as large kernels destroy
thin structures.

Released code: it weighs what is convolved with alpha, as here; the paper weighs the image, which is the same in law.

Deviations: the authors draw Theta, alpha and the coin once a batch; here every image has its own, and only k is drawn
once a batch. Their images are standardised by moments of their data set; here every image is standardised by its own
mean and deviation over valid pixels and all channels for the convolution and taken back afterwards, whatever
``data.normalise`` says. What is not valid counts as 0 there, like the padding, and keeps its values. ``restandardise``
is not in the paper, where brightness and contrast of what is convolved are left to chance, which is part of the style:
it brings them back to those of the image. Predictions are compared at valid pixels, and a view is plain with
probability 1 - p. ``consistency`` is off by default, as it triples the time; the paper's weight is 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.consistency import ConsistentStyle
from fedlight.plugins.convolution import convolve_each, mix, require_odd
from fedlight.plugins.intensity import standardised


class RandConv(ConsistentStyle):
    """Mixes images with random convolutions of themselves.

    Args:
        p: Probability that an image is convolved; 0 gives FedAvg.
        kernel_sizes: Sides of kernels in pixels, odd; one is drawn a batch.
        restandardise: Gives what was convolved the mean and deviation of its image before it is mixed.
        consistency: Weight of the disagreement of three views of an image, at the cost of two further passes; the
            paper uses 10.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self,
        p: float = 0.5,
        kernel_sizes: Sequence[int] = (1, 3, 5, 7),
        restandardise: bool = False,
        consistency: float = 0.0,
    ) -> None:
        self.p = p
        self.kernel_sizes = kernel_sizes
        self.restandardise = restandardise
        self.consistency = consistency

    def validate(self) -> None:
        super().validate()
        require_odd(self.kernel_sizes)

    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        plain, mean, std = standardised(images, valid)
        kernels, alpha = self._draw(*images.shape[:2])
        kernels, alpha = kernels.to(images.device), alpha.to(images.device)
        if not self.restandardise:
            return randconv(plain, kernels, alpha) * std + mean
        convolved, _, _ = standardised(convolve_each(plain, kernels), valid)
        return mix(plain, convolved, alpha) * std + mean

    def _draw(self, n: int, channels: int) -> tuple[Tensor, Tensor]:
        """Draws Theta (n, C, C, k, k) and alpha (n,)."""
        k = self.kernel_sizes[int(torch.randint(len(self.kernel_sizes), (), generator=self.generator))]
        kernels = torch.randn(n, channels, channels, k, k, generator=self.generator)
        return kernels / (channels * k * k) ** 0.5, torch.rand(n, generator=self.generator)


def randconv(x: Tensor, kernels: Tensor, alpha: Tensor) -> Tensor:
    """Computes RC_mix for given draws.

    Args:
        x: (N, C, H, W).
        kernels: (N, C, C, k, k), k odd; not mirrored, padded with 0.
        alpha: (N,), the share of what is convolved.

    Returns:
        (N, C, H, W).
    """
    return mix(x, convolve_each(x, kernels), alpha)
