"""Contrast as WCAG 2 computes it: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""

from __future__ import annotations

import pytest

from fedlight.palette import DARK, LIGHT, MARKERS, SERIES, marker

TEXT = ("ink", "muted", "accent", "good", "bad", "open")


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_21_to_1() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
@pytest.mark.parametrize("name", TEXT)
def test_text_is_readable_on_paper_and_panels(colours: dict[str, str], name: str) -> None:
    assert min(contrast(colours[name], colours[back]) for back in ("paper", "panel")) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK])
@pytest.mark.parametrize("name", SERIES)
def test_marks_stand_out(colours: dict[str, str], name: str) -> None:
    assert contrast(colours[name], colours["paper"]) >= 3


def test_both_papers_have_the_same_colours_and_no_two_are_alike() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)


def test_eight_sites_differ_in_shape_too() -> None:
    assert len({marker(index)[0] for index in range(8)}) == len(MARKERS) == len(SERIES) == 8
    assert len({marker(index) for index in range(64)}) == 64
