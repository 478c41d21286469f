"""BezierRemap: intensities through a random Bezier curve (Models Genesis, Zhou et al., arXiv 2004.07882).

Another device gives a tissue another grey. A smooth curve, drawn anew for every image, says which; where it only rises,
what was brighter stays brighter.

    x'   = y(t)  at the t with x(t) = x                                           x, x' in [0, 1]
    (x(t), y(t)) = (1-t)^3 P_0 + 3 (1-t)^2 t P_1 + 3 (1-t) t^2 P_2 + t^3 P_3      P_i = (x_i, y_i)
    P_0  = (0, 0)    P_3 = (1, 1)    P_1, P_2 ~ U[0, 1]^2                         such a curve rises everywhere
    with probability falling y becomes 1 - y; if not monotone, y_0 to y_3 ~ U(0, 1) each

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, as FedAvg. Cost: 1.03 times FedAvg's time. Settings
that matter: ``p``; ``falling``, which helps between modalities and harms where dark and bright have a meaning.

Deviations: the paper's task is self-supervised restoration; its code has p = 0.9 and half of the curves falling.
Methods for unseen institutions took its curves over (SLAug; arXiv 2112.11177, with rising and falling ones); here none
falls unless asked for. [0, 1] is every image's own range over valid pixels and all channels, and all its channels get
one curve. t is found by bisection, and curves are looked up at 1024 steps. What is not valid keeps its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.bezier import curve_tables, draw_points, entry_of, turned
from fedlight.plugins.image_style import ImageStyle
from fedlight.plugins.intensity import FLAT, inside_of, valid_range


class BezierRemap(ImageStyle):
    """Maps the intensities of images by random curves.

    Args:
        p: Probability that an image is mapped; 0 gives FedAvg.
        falling: Probability that a curve falls: bright becomes dark.
        monotone: Whether a curve only rises or only falls; if not, all heights are drawn and it may turn.
    """

    example_independent = True
    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(self, p: float = 0.5, falling: float = 0.0, monotone: bool = True) -> None:
        self.p = p
        self.falling = falling
        self.monotone = monotone

    def validate(self) -> None:
        super().validate()
        if not 0 <= self.falling <= 1:
            raise ValueError(f"falling must be in [0, 1], got {self.falling}. For half of the curves, use 0.5.")

    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        low, width = valid_range(images, inside_of(images, valid))
        tables = curve_tables(self._draw_curves(len(images))).to(images.device)
        entries = entry_of((images - low) / width.clamp_min(FLAT))
        return low + width * tables.gather(1, entries.flatten(1)).reshape(images.shape)

    def _draw_curves(self, n: int) -> Tensor:
        """Draws the control points of n curves: (n, 4, 2)."""
        points = draw_points(n, self.generator)
        if not self.monotone:
            heights = torch.rand(n, 4, generator=self.generator)
            points = torch.stack([points[..., 0], heights], -1)
        return turned(points, torch.rand(n, generator=self.generator) < self.falling)
