"""Figures: the same bytes each time, the page's colours, texts untouched."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from fedlight.benchmark.report.canvas import Picture
from fedlight.benchmark.report.figures.cost import cost
from fedlight.benchmark.report.figures.curves import curves
from fedlight.benchmark.report.figures.dots import dots
from fedlight.benchmark.report.figures.forest import forest
from fedlight.benchmark.report.figures.heat_map import heat_map
from fedlight.palette import LIGHT

VALUES = pd.DataFrame({"drive": [0.71251, 0.6], "a & b": [np.nan, 0.8]}, index=["fedavg", "mix<style>"])


def drawn(name: str) -> Picture:
    if name == "dots":
        return dots(VALUES, name, "title", "Dice", "fedavg", "alt")
    if name == "heat_map":
        return heat_map(VALUES, name, "title", "Dice", "fedavg", "alt")
    if name == "forest":
        frame = pd.DataFrame({"difference": [0.1, 0.0], "low": [0.0, -0.1], "high": [0.2, 0.1]}, index=VALUES.index)
        frame = frame.assign(low_sites=[-0.1, np.nan], high_sites=[0.3, np.nan])
        return forest(frame, VALUES, name, "title", "difference", "alt")
    if name == "cost":
        points = pd.DataFrame({"megabytes": [1.0, 20.0], "dice": [0.7, 0.8]}, index=VALUES.index)
        return cost(points, name, "title", ("megabytes", "Dice"), "fedavg", "alt")
    rows = [(arm, turn, 0.1 * turn, 0.1 * turn, 0.1 * turn) for arm in VALUES.index for turn in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["arm", "round", "mean", "low", "high"])
    return curves(frame, name, "title", "fedavg", "alt")


FIGURES = ("dots", "heat_map", "forest", "cost", "curves")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_arms_and_repeats_to_the_byte(name: str) -> None:
    picture = drawn(name)
    texts = [element.text for element in ET.fromstring(picture.svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "mix<style>" in texts
    assert picture == drawn(name)


@pytest.mark.parametrize("name", FIGURES)
def test_inside_a_page_colours_are_the_pages(name: str) -> None:
    inline = drawn(name).inline()
    assert "var(--ink)" in inline
    assert not set(re.findall("#[0-9a-f]{6}", inline)) & set(LIGHT.values()) - {LIGHT["paper"]}
    assert "http" not in inline
    referred = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]*)", inline))
    assert referred <= set(re.findall(r' id="([^"]*)"', inline))


def test_numbers_in_cells_keep_their_digits() -> None:
    """Coordinates are rounded to two digits, texts are not; a missing cell says so."""
    texts = re.findall(r">([^<>]*)</text>", drawn("heat_map").svg)
    assert {"0.713", "0.600", "0.800", "n/a"} <= set(texts)
