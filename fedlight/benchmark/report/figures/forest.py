"""The forest plot: every arm's paired difference to the reference, with its interval."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fedlight.benchmark.report.canvas import Picture, figure, picture
from fedlight.benchmark.report.figures.rows import height, legend, name_rows, site_marks
from fedlight.benchmark.report.palette import LIGHT


def forest(
    differences: pd.DataFrame, by_site: pd.DataFrame, name: str, title: str, label: str, alt: str
) -> Picture:
    """Draws mean differences with their intervals, and small marks for the sites beneath.

    Args:
        differences: A row an arm, in the order of drawing: ``difference``, ``low``, ``high``.
        by_site: The same rows, a column a site: the difference at that site alone.
        name: File name of the figure.
        title: What is shown.
        label: Of the axis, with the direction that is better.
        alt: What can be seen.
    """
    with figure(height(len(differences))) as (drawn, axis):
        _draw(axis, differences, by_site)
        name_rows(axis, list(differences.index))
        axis.set_xlabel(label)
        legend(drawn, axis)
        return picture(drawn, name, title, alt)


def _draw(axis: Any, differences: pd.DataFrame, by_site: pd.DataFrame) -> None:
    axis.axvline(0, color=LIGHT["muted"], linewidth=1.0)
    for site, column in enumerate(by_site.columns):
        below = [row + 0.3 for row in range(len(by_site))]
        site_marks(axis, site, f"{column} alone", by_site[column].tolist(), below, 3)
    for row, (low, high) in enumerate(zip(differences["low"], differences["high"], strict=True)):
        axis.plot([low, high], [row, row], color=LIGHT["ink"], linewidth=1.6, solid_capstyle="butt")
    rows = range(len(differences))
    axis.plot(differences["difference"], rows, "o", color=LIGHT["ink"], markersize=5, label="mean, 95 % interval")
