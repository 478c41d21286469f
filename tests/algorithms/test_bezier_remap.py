"""BezierRemap: the curve, what is drawn, and how it is looked up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import BezierRemap
from torch import Tensor

from fedlight.plugins.bezier import ENTRIES, bezier_remap, curve_tables, draw_points, entry_of, turned
from tests.algorithms.test_image_styles import styled, with_images
from tests.contracts.harness import images_of

X = torch.tensor([0.0, 0.125, 0.5, 1.0])


def curve(*points: tuple[float, float]) -> Tensor:
    return torch.tensor(points)


def test_points_on_the_diagonal_change_nothing() -> None:
    thirds = curve((0, 0), (1 / 3, 1 / 3), (2 / 3, 2 / 3), (1, 1))
    torch.testing.assert_close(bezier_remap(X, thirds), X, rtol=0, atol=1e-6)


def test_heights_are_those_at_the_parameter_of_a_place() -> None:
    """X = t and y = t^3 at even abscissae: 1/8 at a half. x = t^3 and y = 1 - (1 - t)^3: at 1/8, t is 1/2 and y 7/8."""
    cubed = curve((0, 0), (1 / 3, 0), (2 / 3, 0), (1, 1))
    torch.testing.assert_close(bezier_remap(X, cubed), X**3, rtol=0, atol=1e-6)
    late = curve((0, 0), (0, 1), (0, 1), (1, 1))
    assert bezier_remap(X, late)[1].item() == pytest.approx(7 / 8, abs=1e-6)


def test_ends_need_not_be_zero_and_one() -> None:
    """From (2, 5) to (4, 3) by thirds: a straight line that falls."""
    line = curve((2, 5), (2 + 2 / 3, 5 - 2 / 3), (2 + 4 / 3, 5 - 4 / 3), (4, 3))
    torch.testing.assert_close(bezier_remap(2 + 2 * X, line), 5 - 2 * X, rtol=0, atol=1e-5)


def test_drawn_curves_rise_from_corner_to_corner() -> None:
    tables = curve_tables(draw_points(500, torch.Generator().manual_seed(0)))
    assert tables.shape == (500, ENTRIES + 1)
    assert tables.diff(dim=1).min() > -1e-5
    torch.testing.assert_close(tables[:, 0], torch.zeros(500), rtol=0, atol=1e-5)
    torch.testing.assert_close(tables[:, -1], torch.ones(500), rtol=0, atol=1e-5)
    assert tables.std(0).max() > 0.1


def test_a_turned_curve_is_the_same_upside_down() -> None:
    points = draw_points(3, torch.Generator().manual_seed(0))
    plain, upside = curve_tables(points), curve_tables(turned(points, torch.tensor([True, False, True])))
    torch.testing.assert_close(upside[[0, 2]], 1 - plain[[0, 2]])
    assert torch.equal(upside[1], plain[1])


def test_the_nearest_entry_is_looked_up() -> None:
    """The levels of an 8-bit image are four entries apart; what is beyond the ends is at the ends."""
    step = 1 / ENTRIES
    assert entry_of(torch.tensor([0.0, 0.4 * step, 0.6 * step, 1.0, -0.5, 1.5])).tolist() == [
        0, 0, 1, ENTRIES, 0, ENTRIES,
    ]  # fmt: skip


def test_an_image_keeps_its_range_and_its_order() -> None:
    """The darkest pixel stays the darkest, and what was brighter is not darker afterwards, in all channels alike."""
    images = images_of("A", 8)["image"]
    out = styled(BezierRemap(p=1), with_images(images))
    for extreme in (torch.amin, torch.amax):
        torch.testing.assert_close(extreme(out, (1, 2, 3)), extreme(images, (1, 2, 3)), rtol=0, atol=1e-4)
    order = images.flatten(1).argsort(1)
    assert out.flatten(1).gather(1, order).diff(dim=1).min() > -1e-4


def test_falling_curves_turn_dark_into_bright() -> None:
    images = images_of("A", 8)["image"]
    out = styled(BezierRemap(p=1, falling=1.0), with_images(images))
    assert out.flatten(1).gather(1, images.flatten(1).argsort(1)).diff(dim=1).max() < 1e-4


def test_curves_that_are_not_monotone_turn_now_and_then() -> None:
    plugin = BezierRemap(monotone=False)
    plugin.generator = torch.Generator().manual_seed(0)
    steps = curve_tables(plugin._draw_curves(300)).diff(dim=1)
    turns = (steps.amin(1) < -1e-4) & (steps.amax(1) > 1e-4)
    assert 0.2 < turns.float().mean() < 0.9


@pytest.mark.parametrize("arguments", [{"falling": -0.1}, {"falling": 1.5}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="falling must"):
        BezierRemap(**arguments).validate()
