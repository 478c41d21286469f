"""The price of a score: Dice against the megabytes that crossed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fedlight.benchmark.report.canvas import WIDTH, Picture, figure, picture
from fedlight.benchmark.report.figures.rows import LETTER, height, wrapped
from fedlight.palette import LIGHT


def cost(points: pd.DataFrame, name: str, title: str, labels: tuple[str, str], reference: str, alt: str) -> Picture:
    """Draws a point an arm, each joined to its name at the right.

    Args:
        points: A row an arm: ``megabytes``, ``dice``.
        name: File name of the figure.
        title: What is shown.
        labels: Of the two axes.
        reference: The arm that is drawn in the ink of the text.
        alt: What can be seen.
    """
    points = points[["megabytes", "dice"]].dropna().sort_values("dice", ascending=False)
    tall = max(2.4, height(points.index))
    with figure(tall, constrained=False) as (drawn, axis):  # the names beside the axes need their place
        names = max(len(line) for arm in points.index for line in wrapped(arm).splitlines()) * LETTER
        drawn.subplots_adjust(
            left=0.62 / WIDTH, right=1 - (names + 0.35) / WIDTH, bottom=0.42 / tall, top=1 - 0.1 / tall
        )
        _points(axis, points, labels, reference)
        _names(axis, points, reference)
        return picture(drawn, name, title, alt)


def _points(axis: Any, points: pd.DataFrame, labels: tuple[str, str], reference: str) -> None:
    inks = [LIGHT["ink"] if arm == reference else LIGHT["series-1"] for arm in points.index]
    axis.scatter(points["megabytes"], points["dice"], c=inks, s=18, linewidth=0, zorder=3)
    if points["megabytes"].gt(0).all() and points["megabytes"].max() > 8 * points["megabytes"].min():
        axis.set_xscale("log")
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.margins(x=0.08, y=0.06)
    axis.grid(axis="both")


def _names(axis: Any, points: pd.DataFrame, reference: str) -> None:
    low, high = axis.get_ylim()
    places = spread([(dice - low) / (high - low) for dice in points["dice"]], 0.95 / max(len(points), 1))
    for place, (arm, megabytes, dice) in zip(places, points.itertuples(), strict=True):
        line = {
            "arrowstyle": "-",
            "color": LIGHT["rule"],
            "linewidth": 0.7,
            "shrinkA": 2,
            "shrinkB": 3,
            "relpos": (0, 0.5),
            "zorder": 1,
        }
        axis.annotate(
            wrapped(str(arm)), (megabytes, dice), (1.05, place), textcoords="axes fraction", va="center",
            arrowprops=line, fontweight="bold" if arm == reference else "normal", annotation_clip=False,
        )  # fmt: skip


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Moves places in [0, 1], highest first, as little as a pass down and a pass up need to be ``apart``.

    >>> [round(place, 2) for place in spread([0.9, 0.9, 0.1], 0.1)]
    [0.9, 0.8, 0.1]
    >>> [round(place, 2) for place in spread([0.1, 0.05, 0.0], 0.1)]
    [0.2, 0.1, 0.0]
    """
    down: list[float] = []
    for place in places:
        down.append(min(place, down[-1] - apart) if down else place)
    up: list[float] = []
    for place in reversed(down):
        up.append(max(place, up[-1] + apart) if up else max(place, 0.0))
    return up[::-1]
