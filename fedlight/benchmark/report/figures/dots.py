"""A row an arm, a mark a site, a bar at their mean: how far apart sites lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fedlight.benchmark.report.canvas import Picture, figure, picture
from fedlight.benchmark.report.figures.rows import ALL, MEAN, height, legend, name_rows, site_marks
from fedlight.palette import LIGHT


def dots(
    values: pd.DataFrame, name: str, title: str, label: str, reference: str, alt: str, whole: bool = False
) -> Picture:
    """Draws one number of every arm at every site.

    Args:
        values: A row an arm, in the order of drawing; a column a site; what is missing is NaN.
        name: File name of the figure.
        title: What is shown.
        label: Of the axis, with its unit.
        reference: The arm whose mean is continued as a line.
        alt: What can be seen.
        whole: Whether the axis counts.
    """
    with figure(height(values.index, [*values.columns, ALL])) as (drawn, axis):
        _draw(axis, values, reference)
        name_rows(axis, list(values.index), reference)
        axis.set_xlabel(label)
        axis.locator_params(axis="x", integer=whole)
        legend(drawn, axis)
        return picture(drawn, name, title, alt)


def _draw(axis: Any, values: pd.DataFrame, reference: str) -> None:
    rows: Sequence[int] = range(len(values))
    means = values.mean(axis=1)
    if reference in values.index:
        axis.axvline(means[reference], color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (4, 3)))
    axis.hlines(rows, values.min(axis=1), values.max(axis=1), color=LIGHT["rule"], linewidth=2)
    for site, column in enumerate(values.columns):
        site_marks(axis, site, str(column), values[column].tolist(), rows, 4)
    axis.plot(means, rows, label=ALL, **MEAN)
