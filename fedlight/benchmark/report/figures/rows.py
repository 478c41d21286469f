"""What the figures with a row an arm share: their height, the arms' names, the legend of sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedlight.benchmark.report.palette import LIGHT, marker

ROW = 0.2
"""Height of a row, in inches."""

LETTERS = 84
"""Letters that a line of the legend holds."""


def height(rows: float, extra: float = 0.75) -> float:
    """Returns the height of a figure, in inches; ``extra`` is for axis and legend."""
    return rows * ROW + extra


def name_rows(axis: Any, names: Sequence[str], reference: str | None = None) -> None:
    """Writes a name beside every row, the first one on top, the reference in bold."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    embolden(axis, names, reference)


def embolden(axis: Any, names: Sequence[str], reference: str | None) -> None:
    """Sets the name of the reference in bold."""
    for label, name in zip(axis.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == reference else "normal")


def site_marks(axis: Any, site: int, name: str, values: Sequence[float], places: Sequence[float], size: float) -> None:
    """Draws a site's marks: its shape and its colour, the same in every figure."""
    shape, colour = marker(site)
    axis.plot(values, places, shape, color=colour, markersize=size, markeredgewidth=0, alpha=0.9, label=name)


def legend(drawn: Any, axis: Any) -> None:
    """Puts what the marks mean above the figure, in as many columns as fit."""
    handles, labels = axis.get_legend_handles_labels()
    fits = sum(map(len, labels)) + 6 * len(labels) <= LETTERS
    columns = len(labels) if fits else max(1, LETTERS // (max(map(len, labels)) + 6))
    drawn.legend(handles, labels, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.4)


MEAN = {"marker": "|", "color": LIGHT["ink"], "markersize": 9, "markeredgewidth": 1.8, "linestyle": "none"}
"""How a mean is drawn: an upright bar."""
