"""A page of sentences, tables and pictures: in the terminal, as Markdown, as one HTML file, as JSON."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from fedlight.palette import DARK, LIGHT, style_sheet


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text.

    Attributes:
        header: Of every column.
        rows: Of as many cells each.
        numbers: Columns that stand at the right, from 0.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with words.

    Attributes:
        name: Of its file, without ending.
        png: Its bytes.
        caption: What it shows.
    """

    name: str
    png: bytes
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        said: Sentences, a paragraph each.
        table: What the terminal shows too.
        whole: What files have in full, if the terminal's table sums it up.
        pictures: What only files have.
    """

    title: str
    said: tuple[str, ...] = ()
    table: Table | None = None
    whole: Table | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """All there is to say.

    Attributes:
        title: In one line.
        said: Sentences before the sections.
        sections: The parts.
        facts: The same as plain values, for programs.
        footer: Where it is from.
    """

    title: str
    said: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    footer: str = ""


ENDINGS = (".md", ".html", ".json")
"""What a page can be written as."""


def written(page: Page, ending: str) -> str:
    """Returns a page as the text of a file with an ending of ``ENDINGS``."""
    if ending == ".json":
        return json.dumps(page.facts, indent=2, ensure_ascii=False) + "\n"
    return html(page) if ending == ".html" else markdown(page)


def write(page: Page, path: Path) -> None:
    """Writes a page as the file's ending says.

    Raises:
        ValueError: If it is none of ``ENDINGS``.
    """
    require_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written(page, path.suffix))


def require_ending(path: Path) -> None:
    """Checks that a page can be written as a file.

    Raises:
        ValueError: If its ending is none of ``ENDINGS``.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(f"output must end in {', '.join(ENDINGS)}, got {path}. Use {path.stem}.html.")


# --- in the terminal -------------------------------------------------------------------------------------------------


def show(page: Page) -> None:
    """Prints a page, without its pictures and with no blanks at the ends of lines."""
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(Text(page.title, "bold"))
        for sentence in page.said:
            console.print(Text(sentence))
        for section in page.sections:
            console.print(Group("", Text(section.title, "bold"), *_shown(section)))
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _shown(section: Section) -> Iterator[RenderableType]:
    for sentence in section.said:
        yield Padding(Text(sentence), (0, 0, 0, 2))
    if section.table is not None:
        table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
        for index, name in enumerate(section.table.header):
            right = index in section.table.numbers
            table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
        for row in section.table.rows:
            table.add_row(*map(Text, row))
        yield Padding(table, (0, 0, 0, 2))


# --- as Markdown -----------------------------------------------------------------------------------------------------


def markdown(page: Page) -> str:
    """Returns a page as Markdown; pictures are links to files beside it."""
    parts = [f"# {page.title}", *page.said]
    for section in page.sections:
        parts += [f"## {section.title}", *section.said]
        if (table := section.whole or section.table) is not None:
            parts.append(_markdown_table(table))
        parts += [f"![{picture.caption}]({picture.name}.png)" for picture in section.pictures]
    return "\n\n".join([*parts, *([page.footer] if page.footer else [])]) + "\n"


def _markdown_table(table: Table) -> str:
    line = ["--:" if index in table.numbers else "---" for index in range(len(table.header))]
    rows = [table.header, line, *table.rows]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in rows)


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


# --- as HTML ---------------------------------------------------------------------------------------------------------

_COLOURS = f"""
:root {{ color-scheme: light dark; {style_sheet(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {style_sheet(DARK)} }} }}
"""
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
p { max-width: 46rem; margin: .6rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: .8rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.2rem 0 1.8rem; }
img { max-width: 100%; image-rendering: pixelated; border-radius: 4px; background: #000; }
figcaption, footer { color: var(--muted); font-size: .9rem; max-width: 46rem; }
summary { cursor: pointer; color: var(--muted); }
@media print { body { max-width: none; padding: 0; } details > * { display: block; } }
""".strip()


def html(page: Page) -> str:
    """Returns a page as one HTML file that loads nothing from elsewhere."""
    body = [f"<h1>{escape(page.title)}</h1>", *map(_paragraph, page.said)]
    for section in page.sections:
        body += [f"<h2>{escape(section.title)}</h2>", *map(_paragraph, section.said), *_html_tables(section)]
        body += map(_html_picture, section.pictures)
    if page.footer:
        body.append(f"<footer>{_paragraph(page.footer)}</footer>")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    title = f"<title>{escape(page.title)}</title>"
    text = "\n".join(body)
    return f"""<!doctype html>
<html lang="en">
<head>{head}{title}
<style>{_COLOURS}{_STYLE}</style></head>
<body>
{text}
</body></html>
"""


def _paragraph(sentence: str) -> str:
    return f"<p>{escape(sentence)}</p>"


def _html_tables(section: Section) -> Iterator[str]:
    if section.table is not None:
        yield _html_table(section.table)
    if section.whole is not None:
        summary = f"<summary>Every tensor ({len(section.whole.rows)})</summary>"
        yield f"<details>{summary}{_html_table(section.whole)}</details>"


def _html_table(table: Table) -> str:
    head = "".join(_cell("th", index, name, table) for index, name in enumerate(table.header))
    rows = (
        f"<tr>{''.join(_cell('td', index, cell, table) for index, cell in enumerate(row))}</tr>" for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cell(tag: str, index: int, text: str, table: Table) -> str:
    kind = ' class="number"' if index in table.numbers else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _html_picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


# --- words for numbers -----------------------------------------------------------------------------------------------


def shape(size: Sequence[int]) -> str:
    """Writes a shape as a person would.

    >>> shape((16, 3, 3, 3)), shape(())
    ('16x3x3x3', 'one number')
    """
    return "x".join(map(str, size)) or "one number"


def in_bytes(count: int) -> str:
    """Writes a number of bytes with its thousands apart.

    >>> in_bytes(1972364)
    '1 972 364'
    """
    return f"{count:,}".replace(",", " ")
