"""Quantise: writes what changed in few bits a number (after QSGD, Alistarh et al., arXiv 1610.02132).

Every output channel has a scale of its own; a number lands on one of the two levels around it by chance, so that the
mean over the draws is the number itself.

    s = max |x| over the channel;  L = 2^(bits - 1) - 1;  q = floor(L x / s + u),  u ~ U[0, 1);  decoded: s q / L

Shared: nothing but the model, which takes 500479 bytes in place of 1972364; ``bits`` a number and four bytes a channel.
Privacy: as FedAvg; rounding is no noise that protects. Secure aggregation: no, the server must decode every site's
update. Cost: 9 ms a message of the default network. Settings that matter: ``bits``.

Deviations: the paper scales by the 2-norm of a whole gradient and codes the levels by Elias; here the scale is a
channel's largest magnitude, as is usual for int8, levels have a fixed number of bits, and ``Zstd`` may follow. With
``stochastic`` off it rounds to the nearest level, with half the largest error and a bias that error feedback returns.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from fedlight.plugins.codec import Codec, Layout, meta
from fedlight.state import State


class Quantise(Codec):
    """Writes numbers as levels of a scale that their channel (the first dimension) shares.

    Args:
        bits: Of a number: 8, 4 or 2.
        stochastic: Whether to round by chance, without bias; else to the nearest level.
    """

    def __init__(self, bits: Literal[8, 4, 2] = 8, stochastic: bool = True) -> None:
        self.bits = bits
        self.stochastic = stochastic

    @property
    def unbiased(self) -> bool:
        return self.stochastic

    def layout(self, like: Layout) -> tuple[Layout, Layout]:
        codes = {name: meta(self._packed(value.numel()), dtype=torch.uint8) for name, value in like.items()}
        return codes, {name: meta(_channels(value)) for name, value in like.items()}

    def encode(self, state: State, generator: torch.Generator) -> tuple[State, State]:
        codes, scales = {}, {}
        for name, value in state.items():
            rows = value.float().reshape(_channels(value), -1)  # (channels, n)
            scales[name] = rows.abs().amax(dim=1)
            levels = quantised(rows, scales[name], self._levels, self._shifts(rows, generator))
            codes[name] = packed((levels + self._levels).to(torch.uint8).flatten(), self.bits)
        return codes, scales

    def decode(self, carried: State, beside: State, like: Layout, generator: torch.Generator) -> State:
        found = {}
        for name, shape in like.items():
            levels = unpacked(carried[name], self.bits)[: shape.numel()].float() - self._levels
            rows = levels.reshape(_channels(shape), -1) * (beside[name] / self._levels)[:, None]
            found[name] = rows.reshape(shape.shape).to(shape.dtype)
        return found

    @property
    def _levels(self) -> int:
        """Levels on each side of zero."""
        return (1 << (self.bits - 1)) - 1

    def _shifts(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(rows.shape, generator=generator) if self.stochastic else torch.full(rows.shape, 0.5)

    def _packed(self, count: int) -> int:
        return math.ceil(count * self.bits / 8)


def quantised(rows: Tensor, scales: Tensor, levels: int, shifts: Tensor) -> Tensor:
    """Returns the level of every number, from -levels to levels; channels of zeros have level 0.

    Args:
        rows: (channels, n), float32.
        scales: (channels,), the largest magnitude of every channel.
        levels: Levels on each side of zero.
        shifts: (channels, n), in [0, 1): what is added before rounding down; 0.5 rounds to the nearest.
    """
    steps = torch.where(scales > 0, levels / scales, 0.0)[:, None]
    return (rows * steps + shifts).floor().clamp(-levels, levels)


def packed(codes: Tensor, bits: int) -> Tensor:
    """Puts several codes into a byte, the first into the lowest bits.

    >>> packed(torch.tensor([1, 2, 3], dtype=torch.uint8), 4).tolist()
    [33, 3]
    """
    count = 8 // bits
    filled = torch.nn.functional.pad(codes, (0, -len(codes) % count)).reshape(-1, count)
    shifted: Tensor = filled << torch.arange(0, 8, bits, dtype=torch.uint8)
    total: Tensor = shifted.sum(dim=1)
    return total.to(torch.uint8)


def unpacked(data: Tensor, bits: int) -> Tensor:
    """Undoes ``packed``; codes that only filled the last byte are at the end.

    >>> unpacked(torch.tensor([33, 3], dtype=torch.uint8), 4).tolist()
    [1, 2, 3, 0]
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    codes: Tensor = (data[:, None] >> shifts) & (2**bits - 1)
    return codes.flatten()


def _channels(value: Tensor) -> int:
    """Returns how many scales a tensor has: one for every output channel, one for a plain list of numbers."""
    return value.shape[0] if value.dim() > 1 else 1
