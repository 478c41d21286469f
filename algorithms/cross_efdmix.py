"""CrossEFDMix: EFDMix with another site as partner (after Zhang et al., arXiv 2203.07740).

Not only mean and deviation of a feature but its whole distribution moves towards that of another site, whose images'
quantiles are shared. Unlike moments, quantiles know how skewed a feature is.

    EFDMix(x)_i = x_i + (1 - lambda) (Q_s(r_i) - x_i),   r_i the rank of x_i in its channel, in [0, 1]
    Q_s(r)      = mean over the images of site s of their quantile functions, at K even levels
    lambda      ~ Beta(alpha, alpha), one an image; no gradient through Q_s(r_i) - x_i

EFDMix is exact matching of distributions by sorting, mixed as in MixStyle. A mean of quantile functions is the
Wasserstein barycentre of the images' distributions, the right mean of distributions.

Shared: K quantiles a channel and stage, 4 K C bytes up and 4 K C a site down; the defaults, K = 33 at encoder1 and
encoder2 of plain-16 (16 + 32 channels), make 6336 bytes up and 25344 down with four sites. Privacy: means over at least
``min_images`` images; the outermost quantiles are means of single darkest and brightest places. Secure aggregation: no,
the server keeps every site's quantiles apart. Cost: a sort of about ``SORTED`` places a channel and a look into a table
for every place, 1.12 times FedAvg's time. Settings that matter: as for MixStyle, early stages, ``p`` and ``alpha``.

Released code: EFDMix sorts two images of a batch, and equal values (most of a channel after a ReLU) get different ranks
by their position, which writes a ramp into flat regions.

Deviations: here equal values share their middle rank, so that flat regions stay flat. Ranks come from the image's own K
quantiles on a grid of its valid places, straight lines between them; with its own quantiles an image stays itself. One
coin an image, for all stages; what is not valid keeps its values; the bank is a round old and the first round is
FedAvg's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.ranks import quantiles_of, read
from fedlight.plugins.style import draw_beta, require_alpha
from fedlight.plugins.style_bank import StyleBank

TABLE = 256
"""Even steps from a channel's least to its greatest value; values are looked up at the nearest."""


class CrossEFDMix(StyleBank):
    """Mixes the distributions of features with those of other sites.

    Args:
        p: Probability that an image is mixed; 0 gives FedAvg.
        alpha: Of Beta(alpha, alpha); small values stay close to one of the two distributions.
        stages: Early stages.
        quantiles: Levels at which distributions are shared, the least and the greatest value included.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = True
    style = "quantiles of channels"

    def __init__(
        self,
        p: float = 0.5,
        alpha: float = 0.1,
        stages: Sequence[str] = ("encoder1", "encoder2"),
        quantiles: int = 33,
        min_images: int = 5,
    ) -> None:
        self.p = p
        self.alpha = alpha
        self.stages = stages
        self.quantiles = quantiles
        self.min_images = min_images

    def validate(self) -> None:
        super().validate()
        require_alpha(self.alpha)
        if self.quantiles < 2:
            raise ValueError(f"quantiles must be at least 2, got {self.quantiles}. The default is 33.")

    def describe(self, x: Tensor, valid: Tensor) -> Tensor:
        return quantiles_of(x, valid, self.quantiles)

    def summarise(self, styles: Tensor) -> Tensor:
        return styles.mean(0)  # (C, K)

    def from_means(self, means: Statistics) -> Statistics:
        return {stage: mean.sort(-1).values for stage, mean in means.items()}

    def put_on(self, x: Tensor, own: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        share = draw_beta(self.alpha, len(x), self.generator).flatten().to(x.device)
        moved = displacement(x.detach().float().flatten(2), own, others, share)
        return (x + moved.reshape(x.shape)).to(x.dtype)


def displacement(values: Tensor, own: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Returns how far values go, (1 - lambda) (Q_others(r) - value), to the nearest of ``TABLE`` entries.

    Beyond its outermost quantiles a value goes as far as these do; with ``others`` equal to ``own`` all stay.

    Args:
        values: (N, C, n).
        own: (N, C, K), rising, quantiles of ``values``.
        others: (N, C, K), rising.
        share: (N,), lambda.

    Returns:
        (N, C, n).
    """
    least, greatest = own[..., :1], own[..., -1:]
    entries = torch.lerp(least, greatest, torch.linspace(0, 1, TABLE + 1, device=own.device))
    table = (1 - share[:, None, None]) * (transport(entries, own, others) - entries)  # (N, C, TABLE + 1)
    scale = TABLE / (greatest - least).clamp_min(1e-12)
    nearest = torch.addcmul(0.5 - least * scale, values, scale).clamp_(0, TABLE).long()
    return table.gather(-1, nearest)


def transport(values: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Returns Q_others(r), r the rank of every value in its own distribution; equal values share their middle rank.

    Args:
        values: (N, C, n), within the outermost of their quantiles.
        own: (N, C, K), rising, quantiles of the distribution that the values are from.
        others: (N, C, K), rising.

    Returns:
        (N, C, n).
    """
    own, others, values = own.contiguous(), others.contiguous(), values.contiguous()
    first, behind = torch.searchsorted(own, own), torch.searchsorted(own, own, right=True)  # the run of equal quantiles
    middle = read(others, (first + behind - 1) / 2)  # (N, C, K), for values that equal a quantile
    above = torch.searchsorted(own, values).clamp_max(own.shape[-1] - 1)  # (N, C, n), the first quantile >= a value
    below = (above - 1).clamp_min(0)
    low, high = own.gather(-1, below), own.gather(-1, above)
    way = ((values - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    between = torch.lerp(others.gather(-1, below), others.gather(-1, above), way)
    return torch.where(values == high, middle.gather(-1, above), between)
