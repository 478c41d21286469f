"""Uncertainty of a segmentation: the predictive entropy, pixel by pixel and as one number a class.

H(x) = - sum_k p_k(x) log p_k(x) / log K, in [0, 1]: 0 where one class is certain, 1 where all K are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlight.tasks.overlay import as_colours

HEAT = (213, 94, 0)
"""Colour of what is uncertain, vermilion (Okabe and Ito)."""


def entropy(chances: Tensor) -> Tensor:
    """Returns the predictive entropy of class probabilities, in [0, 1].

    Args:
        chances: (N, K, H, W), float32; those of a pixel sum to 1.

    Returns:
        (N, H, W), float32.

    >>> entropy(torch.tensor([[1.0, 0.5], [0.0, 0.5]])[None, :, None]).tolist()
    [[[0.0, 1.0]]]
    """
    nats: Tensor = torch.special.entr(chances).sum(1)
    return (nats / log(chances.shape[1])).clamp(0, 1)


def mean_entropies(uncertain: Tensor, labels: Tensor, valid: Tensor, classes: Sequence[str]) -> dict[str, float | str]:
    """Returns the mean entropy of a case, and over the pixels that were given each class (structure-wise).

    Args:
        uncertain: (N, H, W), entropy; N slices of a volume or 1.
        labels: (N, H, W), int64, predicted class.
        valid: (N, H, W), bool; other pixels do not count.
        classes: Names, background first.

    Returns:
        "entropy", then "entropy/<class>" for all but the background; empty where no pixel was given that class.
    """
    structures = {name: valid & (labels == index) for index, name in enumerate(classes) if index}
    means = {"entropy": _mean(uncertain, valid)}
    return means | {f"entropy/{name}": _mean(uncertain, inside) for name, inside in structures.items()}


def _mean(uncertain: Tensor, inside: Tensor) -> float | str:
    return round(float(uncertain[inside].double().mean()), 6) if bool(inside.any()) else ""


def grey_levels(uncertain: Tensor) -> np.ndarray[Any, Any]:
    """Returns entropy (H, W) as the pixels of a 16-bit image: 0 is certain, 65535 is 1."""
    return (uncertain.double() * 65535).round().to(torch.int32).numpy().astype(np.uint16)


def draw_heat(image: Tensor, uncertain: Tensor) -> np.ndarray[Any, Any]:
    """Draws entropy over an image: the more uncertain a pixel, the less of the image is left.

    Args:
        image: (C, H, W), as for ``draw_overlay``.
        uncertain: (H, W), in [0, 1].

    Returns:
        (H, W, 3), uint8.
    """
    colour = torch.tensor(HEAT, dtype=torch.float32)[:, None, None]
    picture = (1 - uncertain) * as_colours(image) + uncertain * colour
    return picture.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
