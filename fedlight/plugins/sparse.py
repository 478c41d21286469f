"""Codecs that write some numbers out of many: how many, and where they were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.codec import Codec, meta


class SparseCodec(Codec):
    """Writes a share of the numbers of every tensor; with 1 it writes all and loses nothing."""

    null: ClassVar[Mapping[str, Any]] = {"share": 1.0}
    share: float

    def validate(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}. 0.01 writes every hundredth number.")

    @property
    def exact(self) -> bool:
        return self.share == 1


def scattered(values: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Puts numbers at places among zeros.

    Args:
        values: (k,), any dtype.
        places: (k,), int64, among the numbers of ``like``.
        like: Shape and dtype of what is returned.
    """
    flat = torch.zeros(like.numel(), dtype=like.dtype)
    return flat.index_put((places,), values.to(like.dtype)).reshape(like.shape)


def number(count: int, share: float) -> int:
    """Returns how many of so many numbers are written, at least one.

    >>> number(1000, 0.01), number(3, 0.01)
    (10, 1)
    """
    return min(count, math.ceil(count * share))


def written(places: Tensor, count: int) -> Tensor:
    """Writes sorted places among ``count`` numbers, in whichever way is shorter.

    Args:
        places: (k,), int64, ascending.
        count: How many numbers there are.

    Returns:
        A bit for every number, (ceil(count / 8),) uint8; or the places as int16 (modulo 2^16) or int32, (k,).
    """
    like = places_layout(count, len(places))
    if like.dtype != torch.uint8:
        return places.to(like.dtype)
    bits = torch.zeros(len(like) * 8, dtype=torch.uint8)
    bits[places] = 1
    return (bits.reshape(-1, 8) << torch.arange(8, dtype=torch.uint8)).sum(dim=1).to(torch.uint8)


def read(data: Tensor, count: int, k: int) -> Tensor:
    """Undoes ``written``.

    Raises:
        ValueError: If these are not k ascending places among so many numbers.
    """
    if data.dtype == torch.uint8:
        places = ((data[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten().nonzero()[:, 0]
    else:
        places = data.to(torch.int64) % 2 ** (8 * data.element_size())
    if len(places) != k or (k and (int(places[-1]) >= count or bool((places.diff() <= 0).any()))):
        raise ValueError(f"a payload must name {k} ascending places among {count}, got others")
    return places


def places_layout(count: int, k: int) -> Tensor:
    """Returns shape and dtype of k written places among so many numbers."""
    dtype = torch.int16 if count <= 2**16 else torch.int32
    size = k * torch.empty((), dtype=dtype).element_size()
    return meta(math.ceil(count / 8), dtype=torch.uint8) if count / 8 <= size else meta(k, dtype=dtype)
