"""What the figures with a row an arm share: their height, the arms' names, the legend of sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedlight.benchmark.report.palette import LIGHT, marker

ROW = 0.235
"""Height of a row, in inches."""


def height(rows: int, extra: float = 0.9) -> float:
    """Returns the height of a figure, in inches; ``extra`` is for axis and legend."""
    return rows * ROW + extra


def name_rows(axis: Any, names: Sequence[str], reference: str | None = None) -> None:
    """Writes a name beside every row, the first one on top, the reference in bold."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    for label, name in zip(axis.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == reference else "normal")


def site_marks(axis: Any, site: int, name: str, values: Sequence[float], places: Sequence[float], size: float) -> None:
    """Draws a site's marks: its shape and its colour, the same in every figure."""
    shape, colour = marker(site)
    axis.plot(values, places, shape, color=colour, markersize=size, markeredgewidth=0, alpha=0.9, label=name)


def legend(drawn: Any, axis: Any) -> None:
    """Puts what the marks mean above the figure, in as many columns as fit."""
    handles, labels = axis.get_legend_handles_labels()
    columns = max(1, min(len(labels), 70 // (max(map(len, labels)) + 5)))
    drawn.legend(handles, labels, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.4)


MEAN = {"marker": "|", "color": LIGHT["ink"], "markersize": 11, "markeredgewidth": 2.0, "linestyle": "none"}
"""How a mean is drawn: an upright bar."""
