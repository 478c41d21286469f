"""Cubic Bezier curves that map intensities."""

from __future__ import annotations

import torch
from torch import Tensor

ENTRIES = 1024
"""Even steps of a curve that is looked up; the levels of an 8-bit image are four of them apart."""

HALVINGS = 26
"""Of the interval in which a parameter is sought; what is left is below the precision of float32."""


def bezier_remap(x: Tensor, points: Tensor) -> Tensor:
    """Returns the heights of cubic Bezier curves above places on the axis, by bisection.

    Args:
        x: (..., n), within the first and the last abscissa.
        points: (..., 4, 2), control points P_0 to P_3 as (x, y), with a curve whose x rises.

    Returns:
        (..., n).
    """
    along, heights = points.double()[..., None].unbind(-2)  # (..., 4, 1); float64, as a curve may be almost upright
    t, step = torch.full_like(x, 0.5, dtype=torch.float64), 0.25
    for _ in range(HALVINGS):
        t = torch.where(_at(along, t) < x, t + step, t - step)
        step /= 2
    return _at(heights, t).to(x.dtype)


def _at(coordinates: Tensor, t: Tensor) -> Tensor:
    """Evaluates curves, (..., 4, 1), at parameters, (..., n), by the Bernstein polynomials."""
    first, second, third, fourth = coordinates.unbind(-2)  # (..., 1)
    s = 1 - t
    return s * s * (s * first + 3 * t * second) + t * t * (3 * s * third + t * fourth)


def curve_tables(points: Tensor) -> Tensor:
    """Tabulates curves over [0, 1] at even places: (..., 4, 2) to (..., ENTRIES + 1)."""
    places = torch.linspace(0, 1, ENTRIES + 1, device=points.device)
    return bezier_remap(places.expand(*points.shape[:-2], -1), points)


def entry_of(share: Tensor) -> Tensor:
    """Returns the nearest entry of a table for places in [0, 1], int64."""
    return (share * ENTRIES + 0.5).long().clamp(0, ENTRIES)


def draw_points(n: int, generator: torch.Generator) -> Tensor:
    """Draws control points of n curves from (0, 0) to (1, 1), the inner two from the unit square: (n, 4, 2).

    Such a curve rises everywhere, whatever is drawn: with ends at 0 and 1 and inner points between, neither
    coordinate ever turns back.
    """
    inner = torch.rand(n, 2, 2, generator=generator)
    return torch.cat([torch.zeros(n, 1, 2), inner, torch.ones(n, 1, 2)], 1)


def turned(points: Tensor, falls: Tensor) -> Tensor:
    """Turns curves upside down where asked to: (n, 4, 2) and (n,) bool to (n, 4, 2)."""
    x, y = points.unbind(-1)
    return torch.stack([x, torch.where(falls[:, None], 1 - y, y)], -1)
