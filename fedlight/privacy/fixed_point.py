"""Real numbers as integers modulo 2^64, so that masks cancel exactly in a sum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ring = npt.NDArray[np.uint64]

FRACTION = 32
"""Binary digits behind the point unless said otherwise: steps of 2.3e-10, finer than float32 above 0.002."""


class SecureSumError(ValueError):
    """A step that must not be taken: with it something would be revealed, or the sum be wrong."""


def bound(fraction: int = FRACTION) -> float:
    """Returns what a sum of all sites must stay below in magnitude.

    >>> f"{bound():.2g}"
    '1.1e+09'
    """
    return 2.0 ** (62 - fraction)


def to_ring(values: Tensor, sites: int, fraction: int = FRACTION) -> Ring:
    """Rounds numbers to the nearest step.

    Args:
        values: (n,), floating.
        sites: How many such vectors will be added.
        fraction: Binary digits behind the point.

    Returns:
        (n,), two's complement.

    Raises:
        SecureSumError: If a number is not finite or so large that the sum might wrap around.
    """
    numbers = values.detach().cpu().double().numpy()
    limit = bound(fraction) / max(sites, 1)
    largest = float(np.abs(numbers).max(initial=0.0))
    if not largest < limit:  # also true of nan
        raise SecureSumError(
            f"a number under secure aggregation must be below {limit:.3g} in magnitude, got {largest:.3g}. "
            "Lower the learning rate, or fraction."
        )
    return np.rint(numbers * 2.0**fraction).astype(np.int64).view(np.uint64)


def from_ring(total: Ring, fraction: int = FRACTION) -> Tensor:
    """Returns the numbers of a sum, (n,), float64."""
    return torch.from_numpy(total.view(np.int64).astype(np.float64) / 2.0**fraction)
