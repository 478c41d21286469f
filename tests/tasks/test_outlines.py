"""Pictures of two segmentations: whose line has which colour, where nothing is drawn, and how large they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlight.tasks.outlines import BOTH, COLUMNS, MASK, PREDICTION, SIDE, draw_outlines

CLASSES = ("background", "disc")


def square(top: int, left: int, side: int = 8, size: int = 24) -> Tensor:
    labels = torch.zeros(size, size, dtype=torch.int64)
    labels[top : top + side, left : left + side] = 1
    return labels


def drawn(mask: Tensor, prediction: Tensor, valid: Tensor | None = None) -> Any:
    """Returns the one panel of a black image, without the legend above it."""
    everywhere = torch.ones_like(mask, dtype=torch.bool) if valid is None else valid
    picture = draw_outlines(torch.zeros(3, *mask.shape), mask, prediction, everywhere, CLASSES)
    return picture[-SIDE:]


def colours(picture: Any) -> set[tuple[int, ...]]:
    return {tuple(map(int, pixel)) for pixel in np.unique(picture.reshape(-1, 3), axis=0)} - {(0, 0, 0)}


def test_each_line_has_its_colour_and_common_ones_a_third() -> None:
    nothing = torch.zeros(24, 24, dtype=torch.int64)
    assert colours(drawn(square(4, 4), nothing)) == {MASK}
    assert colours(drawn(nothing, square(4, 4))) == {PREDICTION}
    assert colours(drawn(square(4, 4), square(4, 4))) == {BOTH}
    assert colours(drawn(square(4, 4), square(4, 6))) == {MASK, PREDICTION, BOTH}


def test_a_line_lies_inside_its_region_and_leaves_its_inside_open() -> None:
    """A square of 8 from row 4 of 24 is one of 160 pixels from row 80 of 480; its line is two pixels wide."""
    line = drawn(square(4, 4), torch.zeros(24, 24, dtype=torch.int64)).any(2)
    expected = np.zeros((480, 480), dtype=bool)
    expected[80:240, 80:240] = True
    expected[82:238, 82:238] = False
    assert np.array_equal(line, expected)


def test_nothing_is_drawn_outside_the_field_of_view_which_fills_the_panel() -> None:
    """Rows and columns 0 to 11 are valid: a square from row 4 to 11 has no line at the edge; one beyond has none."""
    valid = torch.zeros(24, 24, dtype=torch.bool)
    valid[:12, :12] = True
    picture = drawn(square(4, 4), square(14, 14), valid)
    assert colours(picture) == {MASK}
    line = picture.any(2)
    assert line[160:162, 160:].all()
    assert not line[-1, 170:].any()
    hidden = draw_outlines(torch.rand(1, 24, 24), square(4, 4), square(4, 4), ~valid & valid, CLASSES)
    assert not hidden[-SIDE:].any()


def test_thin_vessels_do_not_vanish_when_an_image_shrinks() -> None:
    """One of 1440 rows covers a third of a row of 480."""
    vessel = torch.zeros(1440, 1440, dtype=torch.int64)
    vessel[720] = 1
    assert colours(drawn(vessel, torch.zeros_like(vessel))) == {MASK}


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (900, 1300)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_any_image_makes_panels_of_one_length(size: tuple[int, int], channels: int, classes: int) -> None:
    labels = torch.randint(classes, size, generator=torch.Generator().manual_seed(0))
    names = [f"class number {index}" for index in range(classes)]
    image = torch.linspace(-2, 5, channels * size[0] * size[1]).view(channels, *size)
    picture = draw_outlines(image, labels, labels, torch.ones(size, dtype=torch.bool), names)
    columns = min(COLUMNS, classes - 1)
    assert picture.dtype == np.uint8
    assert SIDE <= max(picture.shape[:2]) <= (SIDE + 60) * max(columns, -(-(classes - 1) // columns))


def test_a_grey_image_stays_grey_and_fills_its_range() -> None:
    image = torch.linspace(-3, 9, 24 * 24).view(1, 24, 24)
    nothing = torch.zeros(24, 24, dtype=torch.int64)
    picture = draw_outlines(image, nothing, nothing, nothing == 0, CLASSES)[-SIDE:]
    assert np.array_equal(picture[..., 0], picture[..., 2])
    assert picture.min() == 0
    assert picture.max() == 178  # 0.7 of white
