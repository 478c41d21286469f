"""The grids of a case: as it was read, and as the network sees it.

A boxed case is scaled by one factor so that it fits the grid, put into the top left corner and padded to the right
and below; a stretched one is scaled to fill the grid, by one factor a side. Masks that go back to a user are always on
the grid of the input.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Placing = Literal["padded", "boxed", "stretched"]
"""How a case comes to the network's grid: as it is, scaled by one factor to fit, or scaled to fill it."""


def content_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) that a case of a given size takes up in the top left corner of a grid.

    >>> content_size((200, 100), (64, 64))
    (64, 32)
    """
    scale = min(grid[0] / size[0], grid[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def content(size: tuple[int, int], grid: tuple[int, int], placing: Placing) -> tuple[int, int]:
    """Returns the (height, width) of the part of the grid that shows a case of a given size; the rest is padding."""
    if placing == "padded":
        return size
    return grid if placing == "stretched" else content_size(size, grid)


def restore(logits: Tensor, size: tuple[int, int], placing: Placing) -> Tensor:
    """Brings logits from the network's grid back to the grid of the case as it was read.

    Args:
        logits: (N, K, H, W), floating.
        size: (height, width) of the case as it was read.
        placing: How the case came to the grid.

    Returns:
        (N, K, height, width), bilinear between pixels where the case was scaled.
    """
    height, width = content(size, (logits.shape[-2], logits.shape[-1]), placing)
    shown = logits[..., :height, :width]
    if (height, width) == size:
        return shown
    return F.interpolate(shown, size=size, mode="bilinear", align_corners=False)


def onto_grid(maps: Tensor, sizes: Tensor, grid: tuple[int, int], placing: Placing) -> Tensor:
    """Brings maps from the grids of cases as they were read to the network's grid.

    Args:
        maps: (N, H, W), bool; a smaller case lies in the top left corner.
        sizes: (N, 2), int64, (height, width) of every case as it was read.
        grid: (height, width) of the network's grid.
        placing: How the cases came to the grid.

    Returns:
        (N, *grid), bool, False in the padding.
    """
    result = torch.zeros(len(maps), *grid, dtype=torch.bool, device=maps.device)
    for i, (height, width) in enumerate(sizes.tolist()):
        shown = content((height, width), grid, placing)
        case = maps[i : i + 1, None, :height, :width].float()
        result[i, : shown[0], : shown[1]] = F.interpolate(case, size=shown, mode="nearest-exact")[0, 0] > 0
    return result
