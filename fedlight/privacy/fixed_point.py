"""Real numbers as integers modulo 2^64, so that masks cancel exactly in a sum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ring = npt.NDArray[np.uint64]

FRACTION = 24
"""Binary digits behind the point: steps of 6e-8."""

RANGE = 2.0 ** (62 - FRACTION)
"""A sum of all sites must stay below this in magnitude: 2.7e11."""


def to_ring(values: Tensor, sites: int) -> Ring:
    """Rounds numbers to the nearest step.

    Args:
        values: (n,), floating.
        sites: How many such vectors will be added.

    Returns:
        (n,), two's complement.

    Raises:
        ValueError: If a number is not finite or so large that the sum might wrap around.
    """
    numbers = values.detach().cpu().double().numpy()
    limit = RANGE / max(sites, 1)
    largest = float(np.abs(numbers).max(initial=0.0))
    if not largest < limit:  # also true of nan
        raise ValueError(f"a number under secure aggregation must be below {limit:.3g} in magnitude, got {largest:.3g}")
    return np.rint(numbers * 2.0**FRACTION).astype(np.int64).view(np.uint64)


def from_ring(total: Ring) -> Tensor:
    """Returns the numbers of a sum, (n,), float64."""
    return torch.from_numpy(total.view(np.int64).astype(np.float64) / 2.0**FRACTION)
