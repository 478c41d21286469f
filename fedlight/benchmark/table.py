"""A table as people read it, in Markdown and in LaTeX with booktabs and graphicx, and what its numbers mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a place of a table; ``best`` is printed bold."""

    text: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its first column holds names, the others numbers.

    Attributes:
        title: What it is about.
        headings: One a column.
        rows: One cell a column.
        note: Sentences under it: what every number means.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str

    def markdown(self) -> str:
        r"""Writes the table for a README.

        >>> row = (Cell("a|b"), Cell("0.712", best=True))
        >>> print(Table("Scores", ("Arm", "Dice ↑"), (row,), "Dice: ...").markdown())
        **Scores**
        <BLANKLINE>
        | Arm | Dice ↑ |
        |---|---:|
        | a\|b | **0.712** |
        <BLANKLINE>
        Dice: ...
        <BLANKLINE>
        """
        rule = "".join("---|" if self._is_text(column) else "---:|" for column in range(len(self.headings)))
        lines = [_piped(map(_escaped, self.headings)), f"|{rule}"]
        lines += [_piped(_marked(cell, "**{}**", _escaped) for cell in row) for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *lines, "", self.note, ""])

    def latex(self) -> str:
        r"""Writes the table for a paper that uses the packages booktabs and graphicx; one that is too wide is shrunk.

        >>> row = (Cell("style_align"), Cell("-0.012", best=True))
        >>> print(Table("Scores", ("Arm", "Dice ↑"), (row,), "Dice: ...").latex())
        \begin{table}
        \centering
        \caption{Scores}
        \footnotesize
        \setlength{\tabcolsep}{4pt}
        \sbox0{%
        \begin{tabular}{lr}
        \toprule
        Arm & Dice $\uparrow$ \\
        \midrule
        style\_align & \textbf{$-$0.012} \\
        \bottomrule
        \end{tabular}}
        \ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi
        \par\smallskip
        \parbox{\linewidth}{Dice: ...}
        \end{table}
        <BLANKLINE>
        """
        columns = "".join(self._tex_column(column) for column in range(len(self.headings)))
        body = [[_marked(cell, r"\textbf{{{}}}", tex) for cell in row] for row in self.rows]
        return "\n".join(
            [
                *(r"\begin{table}", r"\centering", rf"\caption{{{tex(self.title)}}}", r"\footnotesize"),
                *(r"\setlength{\tabcolsep}{4pt}", r"\sbox0{%"),
                *(rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _line(list(map(tex, self.headings))), r"\midrule"),
                *map(_line, body),
                *(r"\bottomrule", r"\end{tabular}}", _FITTED, r"\par\smallskip"),
                *(rf"\parbox{{\linewidth}}{{{tex(self.note)}}}", r"\end{table}", ""),
            ]
        )

    def _is_text(self, column: int) -> bool:
        return column == 0 or self._longest(column) > _LONG

    def _tex_column(self, column: int) -> str:
        if self._longest(column) > _LONG:
            return r"p{0.25\linewidth}"  # sentences wrap
        return "l" if column == 0 else "r"

    def _longest(self, column: int) -> int:
        return max((len(row[column].text) for row in self.rows), default=0)


_LONG = 40

_FITTED = r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"

_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "\N{MINUS SIGN}": "$-$",
    "\N{THIN SPACE}": r"\,",
    "\N{NO-BREAK SPACE}": "~",
}


def tex(text: str) -> str:
    r"""Writes a text so that LaTeX prints it as it is; a sign before a number becomes a minus or plus of mathematics.

    >>> tex("2.5 % of a_b, +0.01 [-0.02, 0.04], p < 0.05")
    '2.5 \\% of a\\_b, $+$0.01 [$-$0.02, 0.04], p $<$ 0.05'
    """
    escaped = "".join(_TEX.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w.)}])([-+])(?=\d)", r"$\1$", escaped)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def _marked(cell: Cell, bold: str, escape: Callable[[str], str]) -> str:
    return bold.format(escape(cell.text)) if cell.best else escape(cell.text)


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
