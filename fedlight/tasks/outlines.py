"""A picture of two segmentations of one image: the outlines of the mask and of a prediction, with a legend.

A class has a panel of its own, two panels in a row, so that lines of different classes never cross. What is outside the
field of view is cut away as far as a rectangle can, and black elsewhere; nothing there is outlined. Lines lie inside
their regions: where a structure is as thin as a line, the lines are a map of what was found, missed and invented.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fedlight.tasks.overlay import as_colours

SIDE = 480
"""Longest side of a panel, in pixels: larger images are made smaller, smaller ones larger."""

LINE = 2
"""Width of a line, in pixels of the picture."""

COLUMNS = 2
"""Panels in a row."""

MASK, PREDICTION, BOTH = (86, 180, 233), (240, 228, 66), (255, 255, 255)
"""Sky blue, yellow and white: they differ for colour-blind readers too, and from red and grey images."""

LEGEND = (("mask", MASK), ("prediction", PREDICTION), ("both", BOTH))

_DIMMED = 0.7  # of the image, so that white lines are seen on white tissue
_COVERED = 0.3  # share of a pixel from which it counts when an image shrinks: thin vessels do not vanish
_GAP = 4


def draw_outlines(
    image: Tensor, mask: Tensor, prediction: Tensor, valid: Tensor, classes: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Draws the outlines of two segmentations, a panel a class, below a legend.

    Args:
        image: (C, H, W), floating, any range; three channels are colours, else the first one is shown in grey.
        mask: (H, W), int64, class index.
        prediction: (H, W), int64, class index.
        valid: (H, W), bool; elsewhere both count as background.
        classes: Names of the classes, background first.

    Returns:
        (height, width, 3), uint8.
    """
    window = _field_of_view(valid)
    valid, colours = valid[window], (as_colours(image, valid) * valid)[:, *window]  # (3, h, w)
    regions = [((mask == k)[window] & valid, (prediction == k)[window] & valid) for k in range(1, len(classes))]
    panels = [_panel(colours, *region) for region in regions]
    names = classes[1:] if len(panels) > 1 else [""]
    return _sheet([_titled(panel, name) for panel, name in zip(panels, names, strict=True)])


def _field_of_view(valid: Tensor) -> tuple[slice, slice]:
    """Returns rows and columns of the smallest rectangle around the valid pixels, or everything where none is."""
    found = valid.nonzero()
    if not len(found):
        return slice(None), slice(None)
    (top, left), (bottom, right) = found.amin(0).tolist(), found.amax(0).tolist()
    return slice(top, bottom + 1), slice(left, right + 1)


def _panel(colours: Tensor, mask: Tensor, prediction: Tensor) -> npt.NDArray[np.uint8]:
    """Draws one class: colours (3, h, w) in [0, 255], mask and prediction (h, w) bool."""
    factor = SIDE / max(colours.shape[1:])
    size = (max(1, round(colours.shape[1] * factor)), max(1, round(colours.shape[2] * factor)))
    picture = F.interpolate(colours[None], size=size, mode="bilinear", antialias=True)[0] * _DIMMED
    drawn, found = (_line(_resized(region, size)) for region in (mask, prediction))
    for place, colour in ((drawn, MASK), (found, PREDICTION), (drawn & found, BOTH)):
        picture = torch.where(place, torch.tensor(colour, dtype=torch.float32)[:, None, None], picture)
    return picture.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _resized(region: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings a region, (h, w) bool, to another size."""
    if size[0] >= region.shape[0]:
        return F.interpolate(region[None, None].float(), size=size, mode="nearest-exact")[0, 0] > 0
    share = F.interpolate(region[None, None].float(), size=size, mode="area")[0, 0]
    return share >= _COVERED


def _line(region: Tensor) -> Tensor:
    """Returns the pixels of a region, (H, W) bool, that are near its outside; the picture's edge is no outside."""
    outside = F.max_pool2d((~region).float()[None, None], kernel_size=2 * LINE + 1, stride=1, padding=LINE)[0, 0] > 0
    return region & outside


def _titled(panel: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.uint8]:
    return np.concatenate([_text([(name, BOTH)], panel.shape[1], 20), panel]) if name else panel


def _sheet(panels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Lays panels of one size out in rows, below the legend."""
    columns = min(COLUMNS, len(panels))
    height, width, _ = panels[0].shape
    full = columns * width + (columns - 1) * _GAP
    head = _text(list(LEGEND), full, 14 + 6 * columns)
    rows = -(-len(panels) // columns)
    sheet = np.zeros((rows * height + (rows - 1) * _GAP, full, 3), dtype=np.uint8)
    for number, panel in enumerate(panels):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = panel
    return np.concatenate([head, sheet])


def _text(parts: Sequence[tuple[str, tuple[int, int, int]]], width: int, size: int) -> npt.NDArray[np.uint8]:
    """Writes words side by side, each in its colour, as small as they must be to fit."""
    font = _fitting(" ".join(f"{text} " for text, _ in parts), width, size)
    line = Image.new("RGB", (width, size + 8))
    draw, left = ImageDraw.Draw(line), 4.0
    for text, colour in parts:
        draw.text((left, 2), text, fill=colour, font=font)
        left += draw.textlength(f"{text}  ", font=font)
    return np.array(line)


def _fitting(text: str, width: int, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the largest font up to a size in which a text fits."""
    fonts = (ImageFont.load_default(pixels) for pixels in range(size, 5, -1))
    return next((font for font in fonts if font.getlength(text) <= width - 8), ImageFont.load_default(6))
