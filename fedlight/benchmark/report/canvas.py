"""From a matplotlib figure to a picture: an SVG that follows the page's colours, and files for a paper."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fedlight.palette import LIGHT

WIDTH = 5.6
"""Width of a figure, in inches: what a page of a paper holds, and not much more than a phone shows."""

STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["rule"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": LIGHT["rule"],
    "ytick.color": LIGHT["rule"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["ink"],
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": LIGHT["ink"],
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "svg.fonttype": "none",
    "savefig.dpi": 200,
}
"""Settings of matplotlib under which every figure is drawn."""

_VARIABLES = {value: f"var(--{name})" for name, value in LIGHT.items() if name != "paper"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as files.

    Args:
        name: File name without an ending; unique within a report.
        title: What the figure shows, in a phrase.
        alt: What can be seen, for whoever cannot see it.
        svg: The file, with the colours of white paper.
        png: The same in pixels, on white.
    """

    name: str
    title: str
    alt: str
    svg: str
    png: bytes

    def inline(self) -> str:
        """Returns the SVG for a page: colours are the page's variables, and no id appears twice in a report."""
        body = self.svg[self.svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
        body = re.sub(r' id="([^"]*)"', lambda found: found[0] if f"#{found[1]}" in body else "", body)
        body = re.sub(r" font-family: [^;]*;", "", body)
        body = re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), body)
        return self._opening(body) + " ".join(body[body.index(">") + 1 :].split())

    def _opening(self, body: str) -> str:
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
        width = round(float(box[1])) if box else 0
        return (
            f'<svg viewBox="{box[0][9:-1] if box else ""}" style="--width: {width}" role="img" '
            f'aria-labelledby="{self.name}-title {self.name}-alt">'
            f'<title id="{self.name}-title">{html.escape(self.title)}</title>'
            f'<desc id="{self.name}-alt">{html.escape(self.alt)}</desc>'
        )


@contextmanager
def figure(height: float, constrained: bool = True, **grid: Any) -> Iterator[tuple[Any, Any]]:
    """Yields a figure of ``WIDTH`` x ``height`` inches and its axes in the report's style.

    Args:
        height: In inches.
        constrained: Whether matplotlib makes room for labels.
        grid: Of axes, as ``pyplot.subplots`` takes it.
    """
    with matplotlib.rc_context({**STYLE, "figure.constrained_layout.use": constrained}):
        drawn = Figure(figsize=(WIDTH, height))
        yield drawn, drawn.subplots(**grid)


def picture(drawn: Any, name: str, title: str, alt: str) -> Picture:
    """Writes a figure down; equal figures give equal bytes.

    Args:
        drawn: A matplotlib figure, within the block of ``figure``.
        name: See ``Picture``.
        title: See ``Picture``.
        alt: See ``Picture``.
    """
    text, pixels = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn.savefig(pixels, format="png", facecolor=LIGHT["paper"], metadata={"Software": None})
    return Picture(name, title, alt, _lean(text.getvalue()), pixels.getvalue())


def _lean(svg: str) -> str:
    """Rounds coordinates to a hundredth of a point, removes turns by nothing and adds a font that every system has."""
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), svg)  # never the texts
    svg = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", svg)
    return svg.replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif")
