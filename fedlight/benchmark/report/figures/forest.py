"""The forest plot: every arm's paired difference to the reference, with its interval."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fedlight.benchmark.report.canvas import Picture, figure, picture
from fedlight.benchmark.report.figures.rows import ALL, ROW, height, legend, name_rows, site_marks
from fedlight.palette import LIGHT


def forest(differences: pd.DataFrame, by_site: pd.DataFrame, name: str, title: str, label: str, alt: str) -> Picture:
    """Draws mean differences with their intervals, and small marks for the sites beneath.

    Args:
        differences: A row an arm, in the order of drawing: ``difference``, ``low``, ``high`` (thick),
            ``low_sites``, ``high_sites`` (thin).
        by_site: The same rows, a column a site: the difference at that site alone.
        name: File name of the figure.
        title: What is shown.
        label: Of the axis, with the direction that is better.
        alt: What can be seen.
    """
    with figure(height(differences.index, [*by_site.columns, ALL], 1.25 * ROW)) as (drawn, axis):
        _draw(axis, differences, by_site)
        name_rows(axis, list(differences.index))
        axis.set_xlabel(label)
        legend(drawn, axis)
        return picture(drawn, name, title, alt)


def _draw(axis: Any, differences: pd.DataFrame, by_site: pd.DataFrame) -> None:
    axis.axvline(0, color=LIGHT["muted"], linewidth=1.0)
    for site, column in enumerate(by_site.columns):
        below = [row + 0.36 for row in range(len(by_site))]
        site_marks(axis, site, str(column), by_site[column].tolist(), below, 2.4)
    rows = range(len(differences))
    for low, high, width in (("low_sites", "high_sites", 0.8), ("low", "high", 2.4)):
        axis.hlines(rows, differences[low], differences[high], color=LIGHT["ink"], linewidth=width)
    axis.plot(differences["difference"], rows, "o", color=LIGHT["ink"], markersize=4.5, label=ALL)
