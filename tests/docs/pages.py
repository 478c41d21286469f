"""Reads the documentation as its readers do: pages, blocks of code, the commands in them, tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
SHELL = ("bash", "sh", "shell", "console")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED_BEFORE = re.compile(r"`([\w.-]+\.\w+)`:\s*$")
_NAMED_INSIDE = re.compile(r"\A# ([\w-]+\.ya?ml)\b")


class Block(NamedTuple):
    """A block of code; ``file`` is its name if it is a file: in the words before it, or in its first line."""

    language: str
    text: str
    file: str | None


def blocks(page: str) -> list[Block]:
    """Returns all blocks of a page in order."""
    found = []
    for match in _BLOCK.finditer(page):
        named = _NAMED_INSIDE.search(match[2]) or _NAMED_BEFORE.search(page[: match.start()])
        found.append(Block(match[1], match[2], named[1] if named else None))
    return found


def commands(block: Block) -> list[str]:
    r"""Returns the commands of a block for a shell, without comments and prompts.

    >>> commands(Block("bash", "# A\nmake \\\n  test\n$ fedlight plugins\n", None))
    ['make    test', 'fedlight plugins']
    """
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]


def documented(page: str) -> list[str]:
    """Returns all commands of a page in order."""
    return [command for block in blocks(page) if block.language in SHELL for command in commands(block)]


def table(page: str, *header: str) -> list[list[str]]:
    """Returns the rows of every table of a page whose header begins with the given cells."""
    rows, inside = [], False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if inside and cells and not set(line) <= set("|-: "):
            rows.append(cells)
        inside = bool(cells) and (inside or tuple(cells[: len(header)]) == header)
    return rows


def inline(page: str) -> list[str]:
    """Returns the pieces of code that stand in sentences and tables."""
    return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", page))
