"""Test-time augmentation: the mean of what a network says of views of an image, each of which is undone exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Views = Literal["flips", "square"]
"""The image mirrored along no, one and both of its sides (4 views), or all symmetries of the square (8)."""

TURNS = {"flips": (0, 2), "square": (0, 1, 2, 3)}
"""Quarter turns of the views; each is taken of the image and of its mirror image."""


def turned(images: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Returns a view of images: mirrored left to right if so, then turned by quarters against the clock.

    Args:
        images: (..., H, W).
        turns: How many quarters.
        mirrored: Whether to mirror first.

    Returns:
        (..., H, W), or (..., W, H) after an odd number of quarters.
    """
    return torch.rot90(images.flip(-1) if mirrored else images, turns, (-2, -1))


def turned_back(maps: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Undoes ``turned``: every pixel is back in its place, none is interpolated."""
    upright = torch.rot90(maps, -turns, (-2, -1))
    return upright.flip(-1) if mirrored else upright


def mean_over_views(say: Callable[[Tensor], Tensor], images: Tensor, views: Views | None) -> Tensor:
    """Returns the mean of what is said of every view, brought back to the image.

    Args:
        say: From images (N, C, H, W) of any sides to maps (N, K, H, W).
        images: (N, C, H, W).
        views: Which ones; None asks once, of the images as they are.

    Returns:
        (N, K, H, W).
    """
    if views is None:
        return say(images)
    total, count = torch.zeros(()), 0
    for turns in TURNS[views]:
        for mirrored in (False, True):
            total = total + turned_back(say(turned(images, turns, mirrored)), turns, mirrored)
            count += 1
    return total / count
