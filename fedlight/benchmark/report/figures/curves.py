"""Learning curves: a small panel an arm, the same axes in all."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from fedlight.benchmark.report.canvas import Picture, figure, picture
from fedlight.benchmark.report.figures.rows import wrapped
from fedlight.palette import LIGHT

COLUMNS = 4
"""Panels beside each other."""


def curves(rounds: pd.DataFrame, name: str, title: str, reference: str, alt: str) -> Picture:
    """Draws the validation score of every arm by round.

    Args:
        rounds: A row an arm and round: ``arm``, ``round``, ``mean``, ``low``, ``high`` over jobs; arms in their order.
        name: File name of the figure.
        title: What is shown.
        reference: The arm whose mean is repeated in every panel.
        alt: What can be seen.
    """
    arms = list(rounds["arm"].unique())
    lines = math.ceil(len(arms) / COLUMNS)
    shape: dict[str, Any] = {
        "nrows": lines,
        "ncols": min(COLUMNS, len(arms)),
        "sharex": True,
        "sharey": True,
        "squeeze": False,
    }
    with figure(lines * (1.05 if all(len(arm) <= 17 for arm in arms) else 1.2) + 0.45, **shape) as (drawn, axes):
        for axis, arm in zip(axes.flat, arms, strict=False):
            _panel(axis, rounds, arm, reference)
        for axis in axes.flat[len(arms) :]:
            axis.set_visible(False)
        axes[0][0].set_ylim(_floor(rounds), None)
        drawn.supxlabel("round", fontsize=7.5, color=LIGHT["muted"])
        drawn.supylabel("source validation Dice", fontsize=7.5, color=LIGHT["muted"])
        return picture(drawn, name, title, alt)


def _floor(rounds: pd.DataFrame) -> float:
    """Returns where the axis begins: low enough for the second half of every curve, too high for the first rounds."""
    late = rounds[rounds["round"] > rounds["round"].max() / 2]
    low, high = float(late["low"].min()), float(late["high"].max())
    return max(0.0, low - max(high - low, 0.05), float(rounds["low"].min()) - 0.01)


def _panel(axis: Any, rounds: pd.DataFrame, arm: str, reference: str) -> None:
    own, other = (rounds[rounds["arm"] == name] for name in (arm, reference))
    if arm != reference:
        axis.plot(other["round"], other["mean"], color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
    axis.fill_between(own["round"], own["low"], own["high"], color=LIGHT["series-1"], alpha=0.22, linewidth=0)
    axis.plot(own["round"], own["mean"], color=LIGHT["series-1"], linewidth=1.2)
    title = wrapped(arm, 17)
    axis.set_title(title, fontsize=7 * min(1, 19 / max(map(len, title.splitlines()))), pad=3)
    axis.grid(axis="y")
    axis.tick_params(length=0)
    axis.locator_params(axis="x", integer=True, nbins=4)
    axis.label_outer()
