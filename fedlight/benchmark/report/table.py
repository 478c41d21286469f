"""A table of the page: what stands in it, what it is sorted by, and a sentence for every column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedlight.benchmark import table as paper
from fedlight.benchmark.report.notation import MINUS, THIN, absent

Values = Mapping[str, Any]
"""A row of a data frame, by column."""

Kind = Literal["", "reference", "aside"]


@dataclass(frozen=True, slots=True)
class Column:
    """What stands below one heading.

    Args:
        title: The heading, with the unit.
        meaning: A sentence that says what the number is; empty where the heading says it.
        write: Makes the text of a cell.
        key: Column of the frame that the table is sorted by, up or down as the reader likes; None: it is not.
        numeric: Whether it is set to the right.
    """

    title: str
    meaning: str
    write: Callable[[Values], str]
    key: str | None = None
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """The texts of a row, what each is sorted by, and whether it is the reference or stands aside, unranked."""

    texts: tuple[str, ...]
    order: tuple[str, ...]
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; the first column names the row.

    Args:
        name: Unique within a report.
        caption: What is shown, in a sentence.
        columns: See ``Column``.
        rows: See ``Row``.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def meanings(self) -> tuple[Column, ...]:
        """The columns that need a sentence."""
        return tuple(column for column in self.columns if column.meaning)


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    values: Iterable[Values],
    kind: Callable[[Values], Kind] = lambda row: "",
) -> Table:
    """Fills a table.

    Args:
        name: See ``Table``.
        caption: See ``Table``.
        columns: See ``Column``.
        values: What is written, row by row.
        kind: Says what a row is.
    """
    rows = (
        Row(tuple(c.write(row) for c in columns), tuple(_order(row.get(c.key or "")) for c in columns), kind(row))
        for row in values
    )
    return Table(name, caption, tuple(columns), tuple(rows))


def _order(value: Any) -> str:
    """Writes what a cell is sorted by: a number in full, nothing where it is missing."""
    if value is None or (isinstance(value, float) and absent(value)):
        return ""
    return repr(float(value)) if isinstance(value, int | float) else str(value)


def plain(table: Table) -> paper.Table:
    """Returns a table as it is written in Markdown and LaTeX: its sentences below it, signs of the keyboard only."""
    rows = tuple(tuple(paper.Cell(_keyboard(text)) for text in row.texts) for row in table.rows)
    note = " ".join(f"{column.title}: {column.meaning}" for column in table.meanings)
    return paper.Table(table.caption.removesuffix("."), tuple(column.title for column in table.columns), rows, note)


def _keyboard(text: str) -> str:
    return text.replace(MINUS, "-").replace(THIN, " ")
