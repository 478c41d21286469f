"""A picture of a segmentation: the image with a tint inside every class and a line around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# colours that colour-blind readers tell apart (Okabe and Ito), foreground classes in order
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
TINT = 0.25


def draw_overlay(image: Tensor, labels: Tensor) -> np.ndarray[Any, Any]:
    """Draws a segmentation over an image.

    Args:
        image: (C, H, W), floating, any range; three channels are colours, else the first one is shown in grey.
        labels: (H, W), int64, class index.

    Returns:
        (H, W, 3), uint8.
    """
    picture = as_colours(image)  # (3, H, W), in [0, 255]
    for index in range(1, int(labels.max()) + 1):
        colour = torch.tensor(COLOURS[(index - 1) % len(COLOURS)], dtype=torch.float32)[:, None, None]
        inside = labels == index
        picture = torch.where(inside, (1 - TINT) * picture + TINT * colour, picture)
        picture = torch.where(_outline(inside), colour, picture)
    return picture.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def as_colours(image: Tensor, valid: Tensor | None = None) -> Tensor:
    """Scales an image from its first to its last percentile; normalised images have no fixed range.

    Args:
        image: (C, H, W), floating; three channels are colours, else the first one is shown in grey.
        valid: (H, W), bool; pixels that the percentiles are of, all of them if left out or empty.

    Returns:
        (3, H, W), float32, in [0, 255].
    """
    colours = image.float() if image.shape[0] == 3 else image[:1].float().expand(3, -1, -1)
    counted = colours if valid is None or not valid.any() else colours[:, valid]
    low, high = np.percentile(counted.numpy(), (1, 99))
    return ((colours - float(low)) / max(float(high - low), 1e-6)).clamp(0, 1) * 255


def spread(labels: Tensor, count: int) -> Tensor:
    """Chooses slices of a volume to show: spread over those with foreground, or over all if none has any.

    Args:
        labels: (S, H, W), int64, class index.
        count: How many at most.

    Returns:
        (n,), int64, their indices in order.
    """
    shown = labels.flatten(1).any(1)
    places = torch.nonzero(shown if shown.any() else ~shown)[:, 0]
    return places[torch.linspace(0, len(places) - 1, min(count, len(places))).round().long().to(places.device)]


def _outline(inside: Tensor) -> Tensor:
    """Returns the pixels of a region, (H, W) bool, that have a neighbour outside; the image's edge is no outside."""
    outside = F.max_pool2d((~inside).float()[None, None], kernel_size=3, stride=1, padding=1)[0, 0] > 0
    return inside & outside
