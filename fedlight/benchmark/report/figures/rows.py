"""What the figures with a row an arm share: their height, the arms' names, the legend of sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedlight.palette import LIGHT, marker

ROW = 0.2
"""Height of a row, in inches."""

LETTER = 0.068
"""Width of a letter, in inches; a little too much is no harm."""

LETTERS = 84
"""Letters that a line of the legend holds."""


LINE = 0.15
"""Height of a line of the legend, in inches."""


def height(names: Sequence[str], marks: Sequence[str] = (), row: float = ROW) -> float:
    """Returns the height of a figure, in inches: rows, of which some may have two lines, the axis and the legend."""
    lines = -(-len(marks) // _columns(marks)) if marks else 0
    return len(names) * pitch(names, row) + 0.45 + LINE * (lines + 1)


def pitch(names: Sequence[str], row: float = ROW) -> float:
    """Returns the height of a row, in inches: more where a name takes two lines."""
    return max(row, 1.5 * ROW) if any("\n" in wrapped(name) for name in names) else row


def wrapped(name: str, letters: int = 22) -> str:
    r"""Breaks a long name in two, at the plus sign that makes the halves most alike.

    >>> wrapped("amplitude_mix+fedavg_align_layers")
    'amplitude_mix+\nfedavg_align_layers'
    >>> wrapped("bigaug+style_align")
    'bigaug+style_align'
    """
    breaks = [place + 1 for place, letter in enumerate(name) if letter == "+"]
    if len(name) <= letters or not breaks:
        return name
    place = min(breaks, key=lambda place: abs(2 * place - len(name)))
    return f"{name[:place]}\n{name[place:]}"


def name_rows(axis: Any, names: Sequence[str], reference: str | None = None) -> None:
    """Writes a name beside every row, the first one on top, the reference in bold."""
    axis.set_yticks(range(len(names)), list(map(wrapped, names)))
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
    columns = _columns(labels)
    drawn.legend(handles, labels, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.4)


def _columns(labels: Sequence[str]) -> int:
    """Returns how many entries of the legend stand side by side."""
    fits = sum(map(len, labels)) + 6 * len(labels) <= LETTERS
    return len(labels) if fits else max(1, LETTERS // (max(map(len, labels)) + 6))


ALL = "mean of the sites"
"""What a mean is called in the legend."""

MEAN = {"marker": "|", "color": LIGHT["ink"], "markersize": 9, "markeredgewidth": 1.8, "linestyle": "none"}
"""How a mean is drawn: an upright bar."""
