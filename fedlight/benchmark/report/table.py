"""A table of the report, written once and rendered as HTML (by the page), Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedlight.benchmark.report.notation import MINUS, MISSING, absent

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
        name: File name without an ending; unique within a report.
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


def markdown(table: Table) -> str:
    """Renders a table for Markdown; the caption stands above it and is not part of it."""
    head = _line(column.title for column in table.columns)
    rule = "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|"
    return "\n".join([head, rule, *(_line(row.texts) for row in table.rows)]) + "\n"


def _line(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MINUS: "$-$", MISSING: "--", "±": r"$\pm$",
    "≥": r"$\geq$", "<": r"$<$", ">": r"$>$", "…": r"\ldots{}", "†": r"$^\dagger$",
}  # fmt: skip


def escaped(text: str) -> str:
    r"""Writes a text so that LaTeX prints it.

    >>> escaped("style_align −0.01")
    'style\\_align $-$0.01'
    """
    return "".join(_LATEX.get(character, character) for character in text)


def latex(table: Table) -> str:
    """Renders a table as a ``tabular`` of the package booktabs, to be input within a ``table`` of one's own."""
    head = " & ".join(escaped(column.title) for column in table.columns)
    rows = [" & ".join(map(escaped, row.texts)) + r" \\" for row in table.rows]
    places = "".join("r" if column.numeric else "l" for column in table.columns)
    return "\n".join(
        [
            f"% {table.caption} Needs \\usepackage{{booktabs}}.",
            *(f"% {column.title}: {column.meaning}" for column in table.meanings),
            f"\\begin{{tabular}}{{{places}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
