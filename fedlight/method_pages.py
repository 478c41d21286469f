"""Methods as Markdown: a page for every algorithm's file and every recipe of fedlight, and a table of all.

The pages are made of docstrings and of the comments of recipes, so they say what the code says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from fedlight.plugins.card import Block, Card
from fedlight.plugins.catalogue import CONFIGS, FAMILIES, Method, arguments_of, halves, methods, switches
from fedlight.plugins.discovery import PluginInfo

MADE = "<!-- Made by `fedlight plugins --write docs/methods`"
"""How every page begins; a file that does not is nobody's to remove."""

INDEX = """\
# Methods

What comes with fedlight, a page each. A page is the docstring at the head of the method's file, and
`fedlight plugins NAME` prints the same.

- **Up** and **down** are the bytes that a site sends, and gets, beside the model in a round: with four sites, the
  default network `plain-16` and colour images of 64 pixels in three classes. The model itself has 1972364 bytes. A test
  runs every method and weighs its messages.
- **Secure aggregation** says whether the server can do with sums alone, and so works with
  [secure aggregation](../threat-model.md).
- **Time** is that of a training step over FedAvg's on the quickstart's network and batches, for aggregators that of a
  whole round, as measured by `tests/performance/plugin_cost.py`: [costs.csv](costs.csv). Of a page with several
  plugins it is that of the dearest.
"""


def write_pages(folder: Path) -> None:
    """Writes all pages into a folder and removes those of methods that are gone.

    Raises:
        ValueError: If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ValueError(f"--write needs a folder that can be made, got {folder} ({error.strerror}).") from error
    made = pages()
    for path in folder.glob("*.md"):
        if path.name not in made and path.read_text(encoding="utf-8").startswith(MADE):
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Returns all pages by file name: fedlight's own methods and an index."""
    own = [method for method in methods() if method.origin == "fedlight"]
    return {"index.md": _index(own), **{f"{method.name}.md": _page(method) for method in own}}


# --- the index -------------------------------------------------------------------------------------------------------


def _index(found: Sequence[Method]) -> str:
    parts = [f"{MADE}: edit the methods' files. -->", INDEX.rstrip()]
    for kind, members in groupby(found, key=lambda method: method.kind):
        header = ("Method", "What it does", "Paper", "Up", "Down", "Secure aggregation", "Time")
        parts += [f"## {FAMILIES.get(kind, kind)}", _table(header, [_entry(method) for method in members])]
    return "\n\n".join(parts) + "\n"


def _entry(method: Method) -> list[str]:
    card = method.card
    up, down = card.shared_bytes or ("", "")
    times = "" if card.times is None else f"{card.times:.2f}"
    return [f"[{method.title}]({method.name}.md)", prose(method.summary), prose(card.source), str(up), str(down),
            card.secure_aggregation, times]  # fmt: skip


# --- a page ----------------------------------------------------------------------------------------------------------


def _page(method: Method) -> str:
    return "\n\n".join(_sections(method)) + "\n"


def _sections(method: Method) -> Iterator[str]:
    file = f"{CONFIGS}/{method.name}.yaml" if method.kind == "recipe" else f"algorithms/{method.name}.py"
    yield f"{MADE} from {file}: edit that. -->"
    yield f"# {method.title}"
    source = f" ({method.card.source})" if method.card.source else ""
    yield prose(f"{method.summary[:-1]}{source}.")
    yield from _card(method.card)
    if method.recipe:
        yield "## Config"
        yield f"```yaml\n{method.recipe}\n```"
        yield f"Switch it on with `-c {file}`."
    for info in method.plugins:
        yield from _plugin(info)
    yield f"[Methods](index.md) · [{file}](../../{file})"


def _card(card: Card) -> Iterator[str]:
    yield from (_block(block) for block in card.body)
    for label, blocks in card.parts.items():
        first, *others = blocks or (Block(""),)
        yield f"**{label}:** {_block(first)}"
        yield from (_block(block) for block in others)


def _plugin(info: PluginInfo) -> Iterator[str]:
    yield f"## `{info.name}`"
    half = _half(info, halves())
    yield prose(f"{info.summary}{half}")
    arguments = arguments_of(info.cls)
    if arguments:
        rows = [[f"`{each.name}`", f"`{each.default}`", prose(each.meaning)] for each in arguments]
        yield _table(("Argument", "Default", "Meaning"), rows)
    yield "Switch it on with " + " or ".join(f"`{switch}`" for switch in switches(info)) + "."


def _half(info: PluginInfo, owners: Mapping[str, str]) -> str:
    own = [half for half, owner in owners.items() if owner == info.name]
    return "".join(f" Its client half is ``{half}``." for half in own)


# --- Markdown --------------------------------------------------------------------------------------------------------


def _block(block: Block) -> str:
    return f"```text\n{block.text}\n```" if block.verbatim else prose(block.text)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(text: str) -> str:
    r"""Returns a sentence of a docstring as Markdown, with links to papers.

    >>> prose("``p`` of x~ <= 1 (arXiv 1812.06127)")
    '`p` of x\\~ &lt;= 1 ([arXiv 1812.06127](https://arxiv.org/abs/1812.06127))'
    """
    parts = re.split(r"``(.+?)``", text)
    return "".join(f"`{part}`" if number % 2 else _linked(_escaped(part)) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    text = text.replace("<", "&lt;")
    return re.sub(r"([*~\\]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9{]))", r"\\\1", text)


def _linked(text: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
