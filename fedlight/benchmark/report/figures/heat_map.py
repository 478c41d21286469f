"""The heat map: mean score of every arm at every site that it had never seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fedlight.benchmark.report.canvas import WIDTH, Picture, figure, picture
from fedlight.benchmark.report.figures.rows import LETTER, ROW, embolden, height, wrapped
from fedlight.benchmark.report.notation import MISSING
from fedlight.palette import LIGHT

COLOURS = "cividis"
"""Even in lightness, and the same to the colour-blind."""


def heat_map(values: pd.DataFrame, name: str, title: str, label: str, reference: str, alt: str) -> Picture:
    """Draws a cell an arm and site, with its number in it.

    Args:
        values: A row an arm, in the order of drawing; a column a site; what is missing is NaN.
        name: File name of the figure.
        title: What is shown.
        label: Of the colours.
        reference: The arm whose name is in bold.
        alt: What can be seen.
    """
    with figure(height(values.index, row=1.15 * ROW)) as (drawn, axis):
        cells = axis.pcolormesh(values, cmap=COLOURS, edgecolors="face", linewidth=0.4, snap=True)
        _names(axis, values, reference)
        _numbers(axis, cells, values)
        bar = drawn.colorbar(cells, ax=axis, fraction=0.03, pad=0.02, label=label)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        return picture(drawn, name, title, alt)


def _names(axis: Any, values: pd.DataFrame, reference: str) -> None:
    axis.invert_yaxis()
    axis.xaxis.tick_top()
    tight = _cell(values) < LETTER * max(len(str(site)) for site in values.columns)
    slant = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if tight else {}
    axis.set_xticks(np.arange(len(values.columns)) + 0.5, values.columns, **slant)
    axis.set_yticks(np.arange(len(values)) + 0.5, list(map(wrapped, values.index)))
    embolden(axis, list(values.index), reference)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xticks(np.arange(1, len(values.columns)), minor=True)


def _cell(values: pd.DataFrame) -> float:
    """Returns about how wide a cell is, in inches."""
    names = max(len(line) for name in values.index for line in wrapped(name).splitlines())
    return (WIDTH - LETTER * names - 0.75) / len(values.columns)


def _numbers(axis: Any, cells: Any, values: pd.DataFrame) -> None:
    cells.update_scalarmappable()
    digits, size = (3, 7.5) if _cell(values) > 0.36 else (2, min(7.5, 26 * _cell(values)))
    colours = cells.get_facecolors().reshape(*values.shape, 4)
    for (row, column), value in np.ndenumerate(values.to_numpy(float)):
        missing = np.isnan(value)
        text, ink = (MISSING, LIGHT["muted"]) if missing else (f"{value:.{digits}f}", _ink(colours[row, column]))
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, size=size)


def _ink(colour: Any) -> str:
    """Returns black or white, whichever is read better on a colour (r, g, b, alpha)."""
    linear = np.where(colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "#ffffff"
