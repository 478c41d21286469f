"""The commands ``fedlight runs`` and ``fedlight watch``; they read files only and need no torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType

from fedlight.arguments import Arguments, show
from fedlight.errors import ConfigError, say
from fedlight.messages import did_you_mean
from fedlight.tracking import ConsoleTracker
from fedlight.watching.comparison import compare, render
from fedlight.watching.follow import follow
from fedlight.watching.listing import listing
from fedlight.watching.record import find, is_run, read_record


def runs(arguments: Sequence[str]) -> int:
    """Lists the runs below a folder, or compares some."""
    parser = Arguments("fedlight runs", "List the runs below a folder, or compare some of them.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="where to look; default: runs")
    parser.add_argument("--compare", nargs="+", type=Path, metavar="RUN", help="settings that differ, and scores")
    parser.add_argument("--json", action="store_true", help="for a script: one JSON value")
    chosen = parser.parse_args(arguments)
    if chosen.compare:
        comparison = compare([_run(path) for path in chosen.compare])
        _show(comparison.plain() if chosen.json else render(comparison))
        return 0
    if not chosen.folder.is_dir():
        raise ConfigError(f"folder must be one that exists, got {chosen.folder}. Name the folder that runs lie in.")
    records = sorted(map(read_record, find(chosen.folder)), key=lambda record: (record.seconds or 0.0, record.path))
    if chosen.json:
        _show([record.plain() for record in records])
    else:
        _show(listing(records, str(chosen.folder)) if records else f"No run below {chosen.folder}.")
    return 0


def watch(arguments: Sequence[str]) -> int:
    """Follows a run until it ends; its exit code becomes that of this command."""
    parser = Arguments("fedlight watch", "Follow a run from another terminal. Ctrl-C ends the watching, not the run.")
    parser.add_argument("run", type=Path, help="the run's folder; it need not exist yet")
    parser.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help="between two looks; default: 1")
    chosen = parser.parse_args(arguments)
    if not chosen.pause > 0:
        raise ConfigError(f"--pause must be above 0 seconds, got {chosen.pause:g}. Use 1.")
    if chosen.run.exists() and not chosen.run.is_dir():
        raise ConfigError(f"run must be the folder of a run, got {chosen.run}, which is a file. Name the folder.")
    try:
        return follow(chosen.run, ConsoleTracker(), say, chosen.pause)
    except KeyboardInterrupt:
        say(f"no longer watching; {chosen.run} goes on by itself")
        return 130


def _run(path: Path) -> Path:
    if not is_run(path):
        known = [str(each) for each in find(path.parent)] if path.parent.is_dir() else []
        raise ConfigError(
            f"--compare must name run folders, got {path}. {did_you_mean(str(path), known)}See fedlight runs."
        )
    return path


def _show(what: RenderableType | Sequence[object] | Mapping[str, object]) -> None:
    if isinstance(what, list | dict):
        sys.stdout.write(json.dumps(what, ensure_ascii=False, indent=1) + "\n")
        sys.stdout.flush()
    else:
        show(what)  # type: ignore[arg-type]
