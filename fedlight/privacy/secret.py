"""Random numbers that nobody can repeat: from the operating system, never from the run's seed.

Whoever knows the seed of a generator can draw its numbers again and subtract the noise. torch's CPU generator uses 32
bits of a seed, few enough to try them all, and the state of a Mersenne twister follows from its outputs, which show
wherever a gradient is 0. So there is no seed and no state here: every number comes fresh from the operating system's
own source, which is a cryptographic one, also after a resume.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor


def seed() -> int:
    """Returns a secret number in [0, 2**63)."""
    return int.from_bytes(os.urandom(8), "little") >> 1


def uniform(count: int) -> Tensor:
    """Draws from [0, 1): (count,), float64, in multiples of 2**-53."""
    if not count:
        return torch.zeros(0, dtype=torch.float64)
    words = torch.frombuffer(bytearray(os.urandom(8 * count)), dtype=torch.int64)
    return (words & (2**53 - 1)).double() * 2.0**-53


def normal(shape: Sequence[int]) -> Tensor:
    """Draws standard normal numbers of a shape, float64 on the CPU.

    Noise is added in double precision and the sum rounded once, so that which single-precision results can occur says
    little about what the noise was added to (Mironov 2012; arXiv 2112.05307).
    """
    count = math.prod(shape)
    half = (count + 1) // 2
    return box_muller(uniform(half), uniform(half))[:count].reshape(tuple(shape))


def noisy(value: Tensor, normal: Tensor, deviation: float) -> Tensor:
    """Adds noise for given standard normal draws, float64 on the CPU: in float64, rounded once."""
    return (value.double() + deviation * normal.to(value.device)).to(value.dtype)


def box_muller(first: Tensor, second: Tensor) -> Tensor:
    """Makes independent standard normal numbers of uniform ones: twice (n,) in [0, 1), float64, to (2 n,).

    >>> box_muller(torch.zeros(1).double(), torch.rand(1).double())
    tensor([0., 0.], dtype=torch.float64)
    """
    radius, angle = (-2 * torch.log1p(-first)).sqrt(), 2 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()]) + 0.0


def poisson(population: int, rate: float, steps: int) -> list[list[int]]:
    """Draws who takes part in every step: each with probability ``rate``, whatever the others do.

    Returns:
        One list of indices a step, in ascending order; it may be empty.
    """
    coins = uniform(population * steps).view(steps, population)
    return [coin.nonzero().flatten().tolist() for coin in coins < rate]
