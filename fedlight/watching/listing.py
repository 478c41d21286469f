"""Runs in a table, one a row."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlight.watching.record import Record

STYLES = {"running": "cyan", "finished": "green", "failed": "red", "interrupted": "yellow", "damaged": "red"}


def listing(records: Sequence[Record], below: str) -> RenderableType:
    """Lists runs in a table that fits 80 columns, and says below it what is wrong with damaged folders.

    Args:
        records: The runs.
        below: The folder that they are named from.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("run", "method", "sites", "held out"):
        table.add_column(name, overflow="fold", min_width=5)
    for name in ("rounds", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("val Dice", "unseen", "MB", "age"):
        table.add_column(name, justify="right", overflow="fold")
    for record in records:
        table.add_row(*_cells(record, below))
    reading = "val Dice: mean over sites, best round behind it; unseen: Dice at held-out sites, if tested; MB a round."
    damaged = [Text(f"{short(each.path, below)}: {each.problem}", "red") for each in records if each.problem]
    return Group(table, *damaged, Text(reading, "dim"))


def short(path: str, below: str) -> str:
    """Names a run from the folder that is listed.

    >>> short("runs/a/b", "runs"), short("runs", "runs")
    ('a/b', 'runs')
    """
    return path.removeprefix(f"{below.rstrip('/')}/") if path != below else path


def span(seconds: float | None) -> str:
    """Writes an age in its largest unit.

    >>> [span(seconds) for seconds in (None, 5, 200, 7300, 200000)]
    ['-', '5s', '3m', '2h', '2d']
    """
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def number(value: float | None, digits: int = 3) -> str:
    """Writes a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def rounds(record: Record) -> str:
    """Writes rounds done and planned."""
    return f"{record.rounds}/{'?' if record.planned is None else record.planned}"


def best(record: Record) -> str:
    """Writes the best validation Dice with its round."""
    return "-" if record.val_dice is None else f"{record.val_dice:.3f} ({record.best_round})"


def _cells(record: Record, below: str) -> list[RenderableType]:
    name, status = Text(short(record.path, below)), Text(record.status, STYLES[record.status])
    if record.status == "damaged":
        return [name, *[Text("")] * 4, status, *[Text("")] * 3, Text(span(record.seconds))]
    texts = [record.method or "-", str(len(record.sites) or "-"), ", ".join(record.held_out) or "-", rounds(record)]
    numbers = [best(record), number(record.held_out_dice), number(record.megabytes, 1), span(record.seconds)]
    return [name, *map(Text, texts), status, *map(Text, numbers)]
