"""Where the time of a run goes, as a table in the terminal, ``profile.csv`` and ``profile.png`` in the run folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from fedlight.feature_moments import plotting
from fedlight.serialization import write_bytes
from fedlight.stopwatch import Stopwatch


class Line(NamedTuple):
    """A section: what it is called, how often it was entered, its seconds in all, in a round, and their share."""

    section: str
    calls: int
    seconds: float
    seconds_a_round: float
    share: float


def lines(watch: Stopwatch, rounds: int) -> list[Line]:
    """Lists sections, the longest first.

    Args:
        watch: What was timed.
        rounds: Rounds that it was timed in.
    """
    total = max(watch.total, 1e-12)
    found = [
        Line(name, watch.calls[name], seconds, seconds / max(rounds, 1), seconds / total)
        for name, seconds in watch.seconds.items()
    ]
    return sorted(found, key=lambda line: -line.seconds)


def show(watch: Stopwatch, rounds: int, folder: Path) -> None:
    """Prints the table and writes table and picture.

    Args:
        watch: What was timed.
        rounds: Rounds that it was timed in.
        folder: Where ``profile.csv`` and ``profile.png`` are written.
    """
    found = lines(watch, rounds)
    console = Console(highlight=False)
    console.print(_table(found, rounds))
    write_bytes(folder / "profile.csv", _csv(found).encode())
    try:
        _draw(found, folder / "profile.png")
        console.print(f"profile: {folder / 'profile.csv'} and profile.png", soft_wrap=True)
    except ModuleNotFoundError as error:
        console.print(f"profile: {folder / 'profile.csv'}; no picture: {error}", soft_wrap=True)


def _csv(found: Sequence[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("section", "calls", "seconds", "share"))
    writer.writerows((line.section, line.calls, f"{line.seconds:.6f}", f"{line.share:.6f}") for line in found)
    return text.getvalue()


def _table(found: Sequence[Line], rounds: int) -> Table:
    table = Table("where the time went", "calls", "seconds", "a round", "share", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in found:
        table.add_row(
            line.section, str(line.calls), f"{line.seconds:.2f}", f"{line.seconds_a_round:.3f}", f"{line.share:.1%}"
        )
    total = sum(line.seconds for line in found)
    table.add_row("all", "", f"{total:.2f}", f"{total / max(rounds, 1):.3f}", "", style="bold")
    return table


def _draw(found: Sequence[Line], path: Path) -> None:
    pyplot: Any = plotting()
    figure, axis = pyplot.subplots(figsize=(7.5, 0.8 + 0.32 * len(found)))
    bars = axis.barh([line.section for line in found], [line.seconds_a_round for line in found], color="C0")
    axis.bar_label(bars, [f"{line.share:.1%}" for line in found], padding=3, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlabel("seconds a round, without what lies inside")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
