"""A run as a folder: what is written, when, and how a run goes on after any interruption.

::

    config.yaml               the resolved config
    metrics.jsonl, .csv       one row at a time, flushed
    run.json                  what the run is, and how it ended
    lock                      held by the process that trains
    rounds/<t>.safetensors    the server after round t; renamed into place last, so a round is whole or absent
    sites/<site>/<t>.safetensors    what a site keeps, after its round t
    errors.log                the traces of what sites raised, if any did
    global.ckpt               the selected model, a normal Lightning checkpoint
    last.ckpt                 the model of the last round

Round t always starts from the server and the sites as they were after round t-1. Of the server the last two rounds
stay, as one may be damaged; of the sites what belongs to these, beside that of the round that they are in.
Nothing here is ever read through pickle.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
import yaml

from fedlight.configs import read_settings
from fedlight.run_lock import hold
from fedlight.serialization import aside, link, read, write, write_bytes

log = logging.getLogger("fedlight")

KEPT = 2
"""Rounds of the server that stay; of a site's, one more: that which is not final yet."""

Which = Literal["selected", "last"]
"""The models that a run keeps: the one that source validation chose, and that of the last round."""


class SiteStore:
    """The state of one site, by round.

    Args:
        folder: The site's own folder; it is made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def ledger(self) -> Path:
        """File of what the site has spent of its privacy budget; no round takes anything back from it."""
        return self.folder / "privacy.json"

    def save(self, round: int, saved: Mapping[str, Any]) -> None:
        """Keeps the state after a round and forgets all but the two before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write(_numbered(self.folder, round), dict(saved))
        _forget(self.folder, KEPT + 1)

    def load(self, round: int) -> dict[str, Any] | None:
        """Returns the state after the last round up to ``round`` in which the site took part, or None."""
        known = [number for number in _rounds(self.folder) if number <= round]
        return read(_numbered(self.folder, known[-1])) if known else None

    def rewind(self, round: int) -> None:
        """Forgets the states of rounds after ``round``, which do not count."""
        for number in _rounds(self.folder):
            if number > round:
                _numbered(self.folder, number).unlink()

    def select(self, round: int) -> None:
        """Keeps the state of a round apart, because its model is the best so far."""
        saved = self.load(round)
        if saved is not None:
            write(self.folder / "selected.safetensors", saved)

    def selected(self) -> dict[str, Any] | None:
        """Returns the state that was kept apart last."""
        path = self.folder / "selected.safetensors"
        return read(path) if path.is_file() else None


class RunFolder:
    """A run on disk.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def rounds(self) -> Path:
        """Folder of the server's state."""
        return self.path / "rounds"

    @property
    def sites(self) -> Path:
        """Folder of the sites' state."""
        return self.path / "sites"

    @property
    def selected(self) -> Path:
        """Checkpoint of the selected model."""
        return self.path / "global.ckpt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last round's model."""
        return self.path / "last.ckpt"

    def model(self, which: Which) -> Path:
        """Checkpoint of the selected or of the last round's model."""
        return self.selected if which == "selected" else self.last

    def exists(self) -> bool:
        """Says whether a run was started here."""
        return (self.path / "config.yaml").is_file()

    def create(self, config: Mapping[str, Any]) -> None:
        """Writes the resolved config, with which a run has started."""
        self.rounds.mkdir(parents=True, exist_ok=True)
        config = {**config, "load": [self._own_copy(Path(file)) for file in config.get("load") or []]}
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write_bytes(self.path / "config.yaml", text.encode())

    def _own_copy(self, file: Path) -> str:
        """Keeps a file with plugins, so that the run needs nothing but its folder; returns its path in there."""
        copy = Path("plugins") / file.name
        if file.is_file():
            (self.path / "plugins").mkdir(exist_ok=True)
            write_bytes(self.path / copy, file.read_bytes())
        return str(copy)

    def config(self) -> dict[str, Any]:
        """Reads the resolved config.

        Raises:
            FileNotFoundError: If no run was started here.
            DamagedFileError: If it is not what was written.
        """
        if not self.exists():
            raise FileNotFoundError(f"{self.path} is not a run folder: it has no config.yaml. Name a run.")
        return read_settings(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps every other process from training in this folder, which is made; the lock ends with the process.

        Raises:
            BlockingIOError: If another process holds it.
        """
        with hold(self.path):
            yield

    def commit(self, round: int, server: Mapping[str, Any]) -> None:
        """Makes a round final: from here on a resumed run starts after it."""
        self.rounds.mkdir(parents=True, exist_ok=True)
        write(_numbered(self.rounds, round), dict(server))
        _forget(self.rounds, KEPT)

    def load(self) -> dict[str, Any] | None:
        """Returns the server's state after the last complete round, or None before the first.

        A damaged file is passed over for the round before.

        Raises:
            ValueError: If every kept round is damaged.
        """
        damage: ValueError | None = None
        for round in reversed(_rounds(self.rounds)):
            try:
                saved: dict[str, Any] = read(_numbered(self.rounds, round))
            except ValueError as error:
                log.warning("%s; going on from the round before", error)
                damage = error
            else:
                return saved
        if damage is not None:
            raise damage
        return None

    def rewind(self, round: int, counted: Mapping[str, int]) -> None:
        """Forgets what sites kept of rounds after ``round``, or after the last one of theirs that counts."""
        for folder in self.sites.glob("*/"):
            SiteStore(folder).rewind(counted.get(folder.name, round))

    def write_checkpoint(self, checkpoint: Mapping[str, Any], selected: bool) -> None:
        """Writes the model of the last round, a Lightning checkpoint of tensors and plain values.

        Args:
            checkpoint: The model; it is written whole or not at all.
            selected: Whether it is the selected model too; then one file has both names until the next round.
        """
        with aside(self.last) as file:
            _save(dict(checkpoint), file)
        if selected:
            link(self.last, self.selected)


def numbered(path: Path) -> list[Path]:
    """Returns the runs that were started under a name: path, path-2, path-3, ..., as far as they exist."""
    candidates = (path if number == 1 else path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return list(itertools.takewhile(lambda candidate: RunFolder(candidate).exists(), candidates))


def newest(path: Path) -> Path:
    """Returns the run with the highest number behind its name, the path itself if there is none."""
    return (numbered(path) or [path])[-1]


def next_free(path: Path) -> Path:
    """Returns the path, or the path with the first number behind it under which no run was started.

    >>> next_free(Path("nowhere/run"))
    PosixPath('nowhere/run')
    """
    taken = len(numbered(path))
    return path.with_name(f"{path.name}-{taken + 1}") if taken else path


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch hides "no space left" behind "unexpected pos"
            raise error.__context__ from None
        raise


def _numbered(folder: Path, round: int) -> Path:
    return folder / f"{round:05d}.safetensors"


def _rounds(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdigit())


def _forget(folder: Path, kept: int) -> None:
    for round in _rounds(folder)[:-kept]:
        _numbered(folder, round).unlink()
