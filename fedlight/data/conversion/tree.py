"""Looks for the files of a data set in somebody's copy of it, and says what is not where it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from fedlight.data.findings import listing
from fedlight.errors import ConfigError

DEPTH = 3
"""Folders below the one that was named in which the data set may begin: archives are unpacked in many ways."""


class LayoutError(ConfigError):
    """Something is not where the layout of a data set has it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of a copy; names are found in any mixture of upper and lower case, hidden files are none.

    Attributes:
        path: The folder.
    """

    path: Path

    def folder(self, *names: str) -> Tree:
        """Returns the folder of the first of these names, which may be paths such as "training/images".

        Raises:
            LayoutError: If there is none.
        """
        for name in names:
            if (found := self.find(name)) is not None and found.is_dir():
                return Tree(found)
        raise LayoutError(f"looked for {_either(names)} in {self.path}, which holds {self._inside()}")

    def holding(self, *names: str) -> Tree:
        """Returns the nearest folder, this one or one below it, that holds something of one of these names.

        Raises:
            LayoutError: If there is none.
        """
        level = [self]
        for _ in range(DEPTH + 1):
            for tree in level:
                if any(tree.find(name) is not None for name in names):
                    return tree
            level = [Tree(path) for tree in level for path in _visible(tree.path) if path.is_dir()]
        raise LayoutError(f"looked for {_either(names)} in and below {self.path}, which holds {self._inside()}")

    def files(self, *patterns: str, deep: bool = False) -> list[Path]:
        """Returns the files whose names match one of the patterns, sorted, with ``deep`` also those in folders below.

        Raises:
            LayoutError: If there is none.
        """
        found = [path for path in (self._below() if deep else _visible(self.path)) if path.is_file()]
        matching = [path for path in found if any(_matches(path.name, pattern) for pattern in patterns)]
        if not matching:
            where = "in and below" if deep else "in"
            raise LayoutError(f"looked for {_either(patterns)} {where} {self.path}, which holds {self._inside()}")
        return sorted(matching)

    def file(self, *names: str) -> Path:
        """Returns the file of the first of these names.

        Raises:
            LayoutError: If there is none.
        """
        for name in names:
            if (found := self.find(name)) is not None and found.is_file():
                return found
        raise LayoutError(f"looked for {_either(names)} in {self.path}, which holds {self._inside()}")

    def find(self, name: str) -> Path | None:
        """Returns what has a name, a path below this folder, or None."""
        path, parts = self.path, PurePosixPath(name).parts
        if parts and (".." in parts or parts[0] == "/"):
            return None
        for part in parts:
            if (path / part).exists():
                path = path / part
                continue
            alike = [each for each in _visible(path) if each.name.lower() == part.lower()]
            if not alike:
                return None
            path = alike[0]
        return path

    def _below(self) -> Iterator[Path]:
        for path in _visible(self.path):
            yield path
            if path.is_dir():
                yield from Tree(path)._below()

    def _inside(self) -> str:
        return listing([path.name for path in _visible(self.path)]) or "nothing"


def _visible(path: Path) -> list[Path]:
    """Returns what is in a folder, sorted, without hidden files and what macOS puts into archives."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return [each for each in inside if not each.name.startswith(".") and each.name != "__MACOSX"]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.lower())


def _either(names: tuple[str, ...]) -> str:
    """Joins names for a sentence.

    >>> _either(("a", "b", "c"))
    'a, b or c'
    """
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
