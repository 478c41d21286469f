"""The grids of a case: as it was read, and as the network sees it.

A resized case is scaled by one factor so that it fits the grid, put into the top left corner and padded to the right
and below. Masks that go back to a user are always on the grid of the input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def content_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) that a case of a given size takes up in the top left corner of a grid.

    >>> content_size((200, 100), (64, 64))
    (64, 32)
    """
    scale = min(grid[0] / size[0], grid[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def restore(logits: Tensor, size: tuple[int, int], resized: bool) -> Tensor:
    """Brings logits from the network's grid back to the grid of the case as it was read.

    Args:
        logits: (N, K, H, W), floating.
        size: (height, width) of the case as it was read.
        resized: Whether the case was resized to the grid; if not, it was only padded.

    Returns:
        (N, K, height, width), bilinear between pixels where the case was resized.
    """
    height, width = content_size(size, (logits.shape[-2], logits.shape[-1])) if resized else size
    content = logits[..., :height, :width]
    if (height, width) == size:
        return content
    return F.interpolate(content, size=size, mode="bilinear", align_corners=False)


def onto_grid(maps: Tensor, sizes: Tensor, grid: tuple[int, int], resized: bool) -> Tensor:
    """Brings maps from the grids of cases as they were read to the network's grid.

    Args:
        maps: (N, H, W), bool; a smaller case lies in the top left corner.
        sizes: (N, 2), int64, (height, width) of every case as it was read.
        grid: (height, width) of the network's grid.
        resized: Whether cases were resized to the grid; if not, they were only padded.

    Returns:
        (N, *grid), bool, False in the padding.
    """
    result = torch.zeros(len(maps), *grid, dtype=torch.bool, device=maps.device)
    for i, (height, width) in enumerate(sizes.tolist()):
        content = content_size((height, width), grid) if resized else (height, width)
        case = maps[i : i + 1, None, :height, :width].float()
        result[i, : content[0], : content[1]] = F.interpolate(case, size=content, mode="nearest-exact")[0, 0] > 0
    return result
