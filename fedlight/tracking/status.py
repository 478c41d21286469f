"""What a run is and how it ended, in ``run.json`` of its folder: for whoever lists or follows runs from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedlight.errors import DamagedFileError
from fedlight.origin import commit
from fedlight.tracking.tracker import RunInfo, Status, Tracker

FILE = "run.json"
_FACTS = (
    *("name", "method", "rounds", "sites", "held_out", "classes"),
    *("local_steps", "num_parameters", "num_samples", "distance_unit", "clock"),
)


class StatusTracker(Tracker):
    """Writes what a run trains when it starts, and how it ended when it ends.

    The status is "running" from the start; a process that is killed leaves it so, and its lock free. A run that is
    opened only to be scored keeps what is there.
    """

    def __init__(self) -> None:
        self._run: RunInfo | None = None
        self._commits: list[str] = []

    def start(self, run: RunInfo) -> None:
        self._run = None if run.scoring else run
        if self._run is not None:
            self._commits = _commits(run.folder)
        self._write("running")

    def finish(self, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path] = ()) -> None:
        # what stopped a run, a full disk for instance, is what should be said
        with suppress(*([] if status == "finished" else [OSError])):
            self._write(status)
        self._run = None

    def _write(self, status: str) -> None:
        if self._run is None:
            return
        known = {name: _plain(getattr(self._run, name)) for name in _FACTS}
        facts = {"status": status, **known, "commits": self._commits}
        path = self._run.folder / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{FILE}.part")
        aside.write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
        aside.replace(path)


def read_status(folder: Path) -> dict[str, Any]:
    """Returns what ``run.json`` says; nothing where there is none, as in folders of earlier versions.

    Raises:
        DamagedFileError: If it is not what was written.
    """
    path = folder / FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DamagedFileError(
            f"{path} is damaged: it is not JSON. Move it away; the run goes on without it."
        ) from error
    if not isinstance(facts, dict):
        raise DamagedFileError(
            f"{path} is damaged: it must be a JSON object. Move it away; the run goes on without it."
        )
    return facts


def _commits(folder: Path) -> list[str]:
    """Returns the commits of fedlight that the run was trained with, in order, the present one last."""
    before: list[str] = []
    with suppress(DamagedFileError):
        before = read_status(folder).get("commits", [])
    now = commit() or "unknown"
    return before if before[-1:] == [now] else [*before, now]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
