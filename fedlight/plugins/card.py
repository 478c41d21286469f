"""Method cards: the docstring of an algorithm's file, taken apart.

A card is a title line, then the idea and the formula (an indented block), then what everybody wants to know of every
method, each part under its label:

    Name: what it does in a phrase (Authors, arXiv id).

    The idea.

        the formula

    Shared: what leaves a site beside the model, N bytes up and M down with four sites. Privacy: ...

A docstring without any of this is a card too: its first line is the phrase and all else the idea.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

LABELS = (
    "Shared",
    "Privacy",
    "Secure aggregation",
    "Cost",
    "Settings that matter",
    "Released code",
    "Deviations",
)
"""The parts of a card, in this order."""

OPTIONAL = frozenset({"Released code"})
"""Parts that a card has only where there is something to say."""

_TITLE = re.compile(r"(?:(?P<name>[^:()]+): )?(?P<phrase>.+?)(?: \((?P<source>[^()]+)\))?\.?")
_LABEL = re.compile(rf"(?:^|(?<=[.;:)] ))({'|'.join(LABELS)}):(?: |$)")
_ARXIV = re.compile(r"(?<![\d.])\d{4}\.\d{4,5}(?!\d)")
_VENUE = re.compile(r"[A-Z][A-Za-z ]+ \d{4}")
_BYTES = re.compile(r"(\d+) bytes up and (\d+) down with four sites")
_LESS = re.compile(r"(\d+) bytes less")
_TIMES = re.compile(r"(\d+(?:\.\d+)?) times FedAvg's time")


class Block(NamedTuple):
    """A paragraph as one line, or an indented block as it stands, without indentation and backticks."""

    text: str
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """What a docstring says of a method.

    Attributes:
        name: In the title: of one method or several.
        phrase: What it does, in a few words.
        source: Who published it and where; empty if the title does not say.
        body: Idea, formula and explanation, in order.
        parts: What stands under each label, by label.
        papers: arXiv ids, in order of appearance.
    """

    name: str
    phrase: str
    source: str
    body: tuple[Block, ...]
    parts: Mapping[str, tuple[Block, ...]]
    papers: tuple[str, ...]

    @property
    def formula(self) -> str:
        """The indented blocks of the body."""
        return "\n\n".join(block.text for block in self.body if block.verbatim)

    @property
    def paper(self) -> str:
        """Where it was published, short: the arXiv id of the title, else venue and year, else the first id."""
        found = _ARXIV.search(self.source) or _VENUE.search(self.source)
        return found[0] if found else "".join(self.papers[:1])

    def said(self, label: str) -> str:
        """Returns what stands under a label as one line."""
        return " ".join(block.text for block in self.parts.get(label, ()))

    @property
    def shared_bytes(self) -> tuple[int, int] | None:
        """Bytes that a site sends beside the model, and gets with four sites; None if the card does not say."""
        found = _BYTES.search(self.said("Shared"))
        if found is not None:
            return int(found[1]), int(found[2])
        return (0, 0) if re.match(r"nothing\b", self.said("Shared")) else None

    @property
    def kept_bytes(self) -> int:
        """Bytes of the model that stay at a site."""
        found = _LESS.search(self.said("Shared"))
        return int(found[1]) if found else 0

    @property
    def secure_aggregation(self) -> str:
        """Its first word: yes, no, or possible."""
        return re.split(r"\W", self.said("Secure aggregation"), maxsplit=1)[0]

    @property
    def times(self) -> float | None:
        """How many times FedAvg's time it takes; None if the card does not say."""
        found = _TIMES.search(self.said("Cost"))
        return float(found[1]) if found else None


@cache
def parse(docstring: str) -> Card:
    r"""Takes a docstring apart.

    >>> card = parse("Bright: adds a number (nobody, no paper).\n\n    x + 1\n\nShared: nothing. Cost: little.")
    >>> card.name, card.phrase, card.source, card.formula
    ('Bright', 'adds a number', 'nobody, no paper', 'x + 1')
    >>> card.said("Cost")
    'little.'
    """
    title, _, rest = docstring.strip().partition("\n")
    named = _TITLE.fullmatch(title.strip())
    body: list[Block] = []
    parts: dict[str, list[Block]] = {}
    here = body
    for block in _blocks(rest):
        for label, text in [("", block.text)] if block.verbatim else _labelled(block.text):
            here = parts.setdefault(label, []) if label else here
            if text:
                here.append(Block(text, block.verbatim))
    return Card(
        name=(named and named["name"]) or "",
        phrase=named["phrase"] if named else title,
        source=(named and named["source"]) or "",
        body=tuple(body),
        parts={label: tuple(blocks) for label, blocks in parts.items()},
        papers=tuple(dict.fromkeys(_ARXIV.findall(docstring))),
    )


def _blocks(text: str) -> Iterator[Block]:
    """Yields paragraphs and indented blocks in order."""
    for chunk in re.split(r"\n\s*\n", text.strip("\n")):
        lines = chunk.splitlines()
        if not chunk.strip():
            continue
        if all(line.startswith("    ") for line in lines):
            text = "\n".join(line.removeprefix("    ").rstrip() for line in lines)
            yield Block(text.replace("``", ""), verbatim=True)
        else:
            yield Block(" ".join(chunk.split()))


def _labelled(paragraph: str) -> Iterator[tuple[str, str]]:
    """Yields label and text of the parts that begin in a paragraph; what comes before the first has no label."""
    before, *found = _LABEL.split(paragraph)
    if before:
        yield "", before.strip()
    for label, text in zip(found[::2], found[1::2], strict=True):
        yield label, text.strip()
