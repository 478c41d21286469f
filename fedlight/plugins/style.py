"""Style augmentation: what its members share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fedlight.plugins.client_plugin import ClientPlugin


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
    """Gives instances other channel statistics: new_std * (x - mean) / std + new_mean (AdaIN, 1703.06868, eq. 8).

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
    scale = (new_variance + eps).sqrt() / (variance + eps).sqrt()  # (N, C, 1, 1)
    return ((x - mean) * scale + new_mean).to(x.dtype)


def draw_beta(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """Draws from Beta(alpha, alpha) for each of n images: (n, 1, 1, 1), float32."""
    both = torch.full((n, 2), alpha, dtype=torch.float64)
    # torch.distributions takes no generator, and a Dirichlet of two is a Beta
    return torch._sample_dirichlet(both, generator)[:, 0].float()[:, None, None, None]
