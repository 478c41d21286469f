"""Methods in the terminal: the list of all of them, and the card of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedlight.plugins.card import Block, Card
from fedlight.plugins.catalogue import CONFIGS, FAMILIES, Method, arguments_of, halves, methods, plain, switches
from fedlight.plugins.discovery import PluginInfo, find, registered

WIDE = 110
"""From this many columns on the list has room for papers."""

READABLE = 100
"""No line of prose is longer."""

INDENT = 4
HALVES = "Client halves (each comes with its aggregator)"
SWITCH = "Switch it on, behind fedlight fit -c CONFIG"


class Row(NamedTuple):
    """A line of the list."""

    family: str
    name: str
    summary: str
    paper: str


# --- the list --------------------------------------------------------------------------------------------------------


def show_list(console: Console) -> None:
    """Prints every plugin that a config can name, and the recipes, by family."""
    for family, rows in groupby(_rows(), key=lambda row: row.family):
        console.print(Text(family, style="bold"))
        console.print(Padding(_table(list(rows), papers=console.width >= WIDE), (0, 0, 1, 2)))
    _line(console, "fedlight plugins NAME prints a card: formula, what is shared, cost, arguments.", 0)


def _table(rows: Sequence[Row], papers: bool) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, min_width=20)
    table.add_column(ratio=1)
    for row in rows:
        listed = [Text(row.paper, style="dim")] if papers else []
        table.add_row(Text(row.name, style="cyan"), _prose(row.summary), *listed)
    return table


def _rows() -> Iterator[Row]:
    """Yields the list in order: methods by family and name, then the client halves."""
    for kind, members in groupby(methods(), key=lambda method: method.kind):
        rows = [row for method in members for row in _rows_of(method, FAMILIES.get(kind, kind))]
        yield from sorted(rows, key=lambda row: row.name.lower())
    owners = halves()
    for info in registered():
        if info.name in owners:
            yield Row(HALVES, info.name, info.summary, "")


def _rows_of(method: Method, family: str) -> list[Row]:
    paper = method.card.paper
    if not method.plugins:
        return [Row(family, method.name, method.summary, paper)]
    return [Row(family, info.name, _with_origin(info), paper) for info in method.plugins]


def _with_origin(info: PluginInfo) -> str:
    return info.summary if info.origin == "fedlight" else f"{info.summary} (from {info.origin})"


# --- one card --------------------------------------------------------------------------------------------------------


def show_card(console: Console, name: str) -> None:
    """Prints the card of a plugin or of a recipe; its name may be written as that of its config.

    Raises:
        ValueError: If there is none; the sentence lists the known names and the nearest.
    """
    recipe = next((each for each in methods() if each.kind == "recipe" and plain(each.name) == plain(name)), None)
    if recipe is None:
        alike = [info.name for info in registered() if plain(info.name) == plain(name)]
        _show_plugin(console, find(alike[0] if alike else name))
        return
    _heading(console, recipe.name, "recipe")
    _show(console, recipe.card)
    _section(console, "Config", recipe.recipe.splitlines())
    _section(console, SWITCH, [f"-c {CONFIGS}/{recipe.name}.yaml"])


def _show_plugin(console: Console, info: PluginInfo) -> None:
    origin = "" if info.origin == "fedlight" else f", from {info.origin}"
    _heading(console, info.name, f"{info.kind}{origin}")
    if info.summary.rstrip(".") != info.card.phrase:
        _paragraph(console, info.summary, space=False)
    _show(console, info.card)
    arguments = arguments_of(info.cls)
    if arguments:
        _title(console, "Arguments")
        rows = [(Text(each.name, style="cyan"), Text(each.default), _prose(each.meaning)) for each in arguments]
        _grid(console, rows)
    owner = halves().get(info.name)
    if owner is None:
        _section(console, SWITCH, switches(info))
    else:
        _section(console, "Switch it on", [f"It comes with {owner}."])


def _show(console: Console, card: Card) -> None:
    """Prints what a docstring says: its title, idea and formula, then the parts under their labels."""
    if card.phrase:
        name, source = f"{card.name}: " if card.name else "", f" ({card.source})" if card.source else ""
        _paragraph(console, f"{name}{card.phrase}{source}.")
    for block in card.body:
        _block(console, block)
    if card.parts:
        console.print()
        _grid(console, [(Text(label, style="bold"), _prose(card.said(label))) for label in card.parts])


# --- pieces ----------------------------------------------------------------------------------------------------------


def _heading(console: Console, name: str, kind: str) -> None:
    console.print(Text.assemble((name, "bold cyan"), f" ({kind})"), soft_wrap=True)


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    _title(console, title)
    for line in lines:
        _line(console, line)


def _block(console: Console, block: Block) -> None:
    if not block.verbatim:
        _paragraph(console, block.text)
        return
    console.print()
    for line in block.text.splitlines():
        _line(console, line)


def _line(console: Console, text: str, indent: int = INDENT) -> None:
    """Prints a line as it is, however long."""
    console.print(Text(f"{' ' * indent}{text}"), soft_wrap=True)


def _paragraph(console: Console, text: str, space: bool = True) -> None:
    if space:
        console.print()
    console.print(_prose(text), width=_width(console))


def _grid(console: Console, rows: Sequence[Sequence[RenderableType]]) -> None:
    table = Table.grid(padding=(0, 2))
    for _ in rows[0][:-1]:
        table.add_column(no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    console.print(table, width=_width(console))


def _width(console: Console) -> int:
    return min(console.width, READABLE)


def _prose(text: str) -> Text:
    """Returns prose with what stands between double backticks set off."""
    parts = re.split(r"``(.+?)``", text)
    return Text.assemble(*((part, "cyan" if number % 2 else "") for number, part in enumerate(parts)))
