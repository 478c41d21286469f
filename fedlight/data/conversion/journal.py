"""The record of a conversion, a line a case: what goes on after a kill, and what provenance is written from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedlight.errors import ConfigError
from fedlight.serialization import write_bytes

NAME = "preparation.jsonl"
_PASSED_OVER = (NAME, "lock")


@dataclass(frozen=True, slots=True)
class Written:
    """A case that was converted, or that could not be.

    Attributes:
        site: Its institution.
        case: Its name.
        patient: Its patient.
        split: Where the owners put it; empty if they do not say.
        sources: The files that it was made of, below the source.
        files: The files that were written, below the root -> SHA-256; empty if the case could not be used.
        problem: Why it could not be used.
    """

    site: str
    case: str
    patient: str
    split: str = ""
    sources: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


class Journal:
    """The conversion of one data set into one root.

    Args:
        root: Folder of the sites, which must be new, empty or begun by the same conversion.
        settings: What must be the same when a conversion goes on.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        self.root = root
        self.settings = json.loads(json.dumps(settings))
        self.written: dict[tuple[str, str], Written] = {}
        self.complete = False

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / NAME

    def check(self) -> None:
        """Refuses a folder that holds something else.

        Raises:
            ConfigError: If it does.
        """
        inside = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        other = sorted(name for name in inside if name not in _PASSED_OVER and not name.endswith(".part"))
        if other and not self.path.exists():
            raise ConfigError(f"--root {self.root} holds {other[0]}, and nothing is overwritten. Name a new folder.")

    def open(self) -> None:
        """Reads what was done before, if anything was; cases whose files are not what was written do not count.

        Raises:
            ConfigError: If it was done with other settings.
        """
        if not self.path.exists():
            self._write([self.settings])
            return
        header, *rows = self._lines()
        if header != self.settings:
            changed = [name for name in self.settings if header.get(name) != self.settings[name]]
            before = ", ".join(f"{name} {header.get(name)}" for name in changed)
            raise ConfigError(f"{self.root} was begun with {before}. Begin again in a new folder, or go on with that.")
        self.complete = {"complete": True} in rows
        written = [Written(**row) for row in rows if "case" in row]
        self.written = {(each.site, each.case): each for each in written if self.complete or self._holds(each)}
        if not self.complete:
            self._write([self.settings, *map(asdict, self.written.values())])

    def add(self, written: Written) -> None:
        """Notes a case whose files are on disk."""
        self.written[written.site, written.case] = written
        self._append(asdict(written))

    def close(self) -> None:
        """Notes that every case is there."""
        self.complete = True
        self._append({"complete": True})

    def _lines(self) -> list[dict[str, Any]]:
        """Returns the lines that are whole; the last one may have been torn."""
        rows: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows or [{}]

    def _holds(self, written: Written) -> bool:
        paths = {self.root / name: digest for name, digest in written.files.items()}
        return bool(paths) and all(path.is_file() and sha256(path) == digest for path, digest in paths.items())

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        write_bytes(self.path, b"".join(_line(row) for row in rows))

    def _append(self, row: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
