"""Ranks and quantiles: the channels of an image, sorted over valid places only."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from fedlight.statistics import valid_at

SORTED = 512
"""Places of a channel, at most or a few more, that are sorted for its quantiles."""


def sort_valid(x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts the values of every channel; those that are not valid come last, as infinity.

    Args:
        x: (N, C, n).
        inside: (N, 1, n), bool, which places are valid.

    Returns:
        Values, (N, C, n), float32, rising, and the place that each of them is from, int64; equal values stay in order.
    """
    ordered = x.float().masked_fill(~inside, torch.inf).sort(dim=-1, stable=True)
    return ordered.values, ordered.indices


def read(ordered: Tensor, rank: Tensor) -> Tensor:
    """Returns sorted values at ranks from 0, on straight lines between neighbours.

    Args:
        ordered: (N, C, n), rising.
        rank: (N, C, k) or (N, 1, k), within 0 and n - 1.

    Returns:
        (N, C, k).
    """
    low, high = (ordered.gather(-1, at.long().expand(-1, ordered.shape[1], -1)) for at in (rank.floor(), rank.ceil()))
    return torch.lerp(low, high, rank - rank.floor())


def quantiles_of(x: Tensor, valid: Tensor, count: int) -> Tensor:
    """Returns quantiles at even levels from 0 to 1 of every instance and channel over valid places.

    Args:
        x: (N, C, h, w).
        valid: (N, H, W), bool.
        count: K.

    Returns:
        (N, C, K), float32, rising.
    """
    inside = valid_at(valid, (x.shape[-2], x.shape[-1])).bool()
    step = ceil((x.shape[-2] * x.shape[-1] / SORTED) ** 0.5)
    if bool(inside[..., ::step, ::step].flatten(1).any(1).all()):  # else a small field of view would be missed
        x, inside = x[..., ::step, ::step], inside[..., ::step, ::step]
    values, _ = sort_valid(x.flatten(2), inside.flatten(2))  # (N, C, n)
    last = inside.flatten(2).sum(-1, keepdim=True) - 1  # (N, 1, 1)
    return read(values, last * torch.linspace(0, 1, count, device=x.device))
