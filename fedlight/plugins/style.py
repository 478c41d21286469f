"""Style augmentation: what its members share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fedlight.plugins.client_plugin import ClientPlugin
from fedlight.statistics import channel_moments, valid_at


class StyleAugmentation(ClientPlugin):
    """Changes how images or features look and leaves masks alone; probability 0 must be plain training."""

    kind: ClassVar[str] = "style"


def require_probability(p: float) -> None:
    """Checks a probability.

    Raises:
        ValueError: If it is outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in [0, 1], got {p}. To restyle half of the time, use 0.5.")


def require_alpha(alpha: float) -> None:
    """Checks the argument of Beta(alpha, alpha), from which shares of mixtures are drawn.

    Raises:
        ValueError: If it is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}. To switch mixing off, use p=0.")


def mean_and_std(x: Tensor, valid: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns mu and sigma of every instance and channel over valid pixels, without gradient.

    Args:
        x: (N, C, h, w), images or features.
        valid: (N, H, W), bool, at image resolution.
        eps: Added to the biased variance before the root, so that sigma is positive.

    Returns:
        Both (N, C, 1, 1), float32 (float64 if ``x`` is).
    """
    mean, variance = channel_moments(x.detach(), valid)
    return mean, (variance + eps).sqrt()


def change_style(x: Tensor, mean: Tensor, std: Tensor, new_mean: Tensor, new_std: Tensor) -> Tensor:
    """Gives instances other channel statistics: new_std * (x - mean) / std + new_mean (AdaIN, 1703.06868, eq. 8).

    Args:
        x: (N, C, h, w).
        mean: (N, C, 1, 1), the statistics that ``x`` has.
        std: (N, C, 1, 1), positive.
        new_mean: (N, C, 1, 1), the statistics that it gets.
        new_std: (N, C, 1, 1).

    Returns:
        (N, C, h, w), in the dtype of ``x``.
    """
    return ((x - mean) * (new_std / std) + new_mean).to(x.dtype)


def require_min_images(min_images: int) -> None:
    """Checks from how many different images of a round a site shares statistics.

    Raises:
        ValueError: If that is none.
    """
    if min_images < 1:
        raise ValueError(f"min_images must be at least 1, got {min_images}. The default is 5.")


def require_spread(spread: float) -> None:
    """Checks how far styles are drawn around that of a site, in its standard deviations.

    Raises:
        ValueError: If it is negative.
    """
    if not spread >= 0:
        raise ValueError(f"spread must not be negative, got {spread}. 0 takes what a site has on average.")


def exchange_moments(
    x: Tensor, mean: Tensor, variance: Tensor, new_mean: Tensor, new_variance: Tensor, eps: float = 1e-6
) -> Tensor:
    """Does what ``change_style`` does, for variances that may be 0.

    Args:
        x: (N, C, h, w).
        mean: (N, C, 1, 1), the statistics that ``x`` has.
        variance: (N, C, 1, 1), biased.
        new_mean: (N, C, 1, 1), the statistics that it gets.
        new_variance: (N, C, 1, 1), biased.
        eps: Added to both variances before the root.

    Returns:
        (N, C, h, w), in the dtype of ``x``.
    """
    return change_style(x, mean, (variance + eps).sqrt(), new_mean, (new_variance + eps).sqrt())


def where_valid(valid: Tensor, styled: Tensor, x: Tensor) -> Tensor:
    """Returns restyled features in valid places and the ones from before elsewhere.

    Args:
        valid: (N, H, W), bool, at image resolution; an image without a valid pixel counts whole.
        styled: (N, C, h, w).
        x: (N, C, h, w).
    """
    if bool(valid.all()):
        return styled
    return torch.where(valid_at(valid, (x.shape[-2], x.shape[-1])).bool(), styled, x)


def mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Returns mixtures, lambda of the first and 1 - lambda of the second: (N, ...) of both with a share (N,) each."""
    share = share.view(-1, *[1] * (first.ndim - 1))
    return share * first + (1 - share) * second


def draw_beta(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """Draws from Beta(alpha, alpha) for each of n images: (n, 1, 1, 1), float32."""
    both = torch.full((n, 2), alpha, dtype=torch.float64)
    # torch.distributions takes no generator, and a Dirichlet of two is a Beta
    return torch._sample_dirichlet(both, generator)[:, 0].float()[:, None, None, None]
