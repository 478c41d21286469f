"""What a run folder says about its run, also while another process trains in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from fedlight.configs import read_settings
from fedlight.errors import DamagedFileError
from fedlight.run_lock import is_held
from fedlight.tracking import read_rows, read_status
from fedlight.tracking.rows import Row

State = Literal["running", "finished", "failed", "interrupted", "damaged"]

_ENDED = ("finished", "failed", "interrupted")
_MODELS = ("global", "ensemble", "mean")  # the first that was scored speaks for a run


@dataclass(frozen=True, slots=True)
class Record:
    """One run as its folder tells it; None is what it does not tell.

    Attributes:
        path: The folder.
        status: "damaged" where the folder cannot be read; ``problem`` says why.
        method: The aggregator, the plugins and the codecs, by name.
        sites: Those that train.
        held_out: Those that take no part.
        rounds: Rounds done.
        planned: Rounds that the run is planned for.
        best_round: The round whose model is the selected one.
        val_dice: The sites' mean validation Dice in that round.
        held_out_dice: Dice at the institutions that took no part, their mean, if it was tested.
        megabytes: What crosses in a round, to the sites and back, on average.
        seconds: Since the folder's record last changed.
    """

    path: str
    status: State
    method: str = ""
    sites: Sequence[str] = ()
    held_out: Sequence[str] = ()
    rounds: int = 0
    planned: int | None = None
    best_round: int | None = None
    val_dice: float | None = None
    held_out_dice: float | None = None
    megabytes: float | None = None
    seconds: float | None = None
    problem: str | None = None
    site_dice: Mapping[str, float | None] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Returns plain values for a script."""
        return asdict(self)


def find(root: Path) -> Iterator[Path]:
    """Yields every run folder below a folder, or the folder itself if it is one; nothing is looked for inside runs."""
    if is_run(root):
        yield root
        return
    for place, folders, _ in os.walk(root):
        inside = sorted(name for name in folders if not name.startswith("."))
        runs = [name for name in inside if is_run(Path(place, name))]
        yield from (Path(place, name) for name in runs)
        folders[:] = [name for name in inside if name not in runs]


def is_run(folder: Path) -> bool:
    """Says whether a folder holds a run, or what is left of one."""
    if any((folder / name).is_file() for name in ("metrics.jsonl", "run.json")):
        return True
    return (folder / "config.yaml").is_file() and (folder / "rounds").is_dir()


def read_record(folder: Path) -> Record:
    """Reads what a run folder says; a damaged one becomes a record with the reason."""
    try:
        return _record(folder)
    except (DamagedFileError, OSError) as error:
        return Record(str(folder), "damaged", problem=" ".join(str(error).split()), seconds=age(folder))


def status_of(folder: Path, facts: Mapping[str, Any], rounds: int, planned: int | None, failed: bool) -> State:
    """Says how a run is: its lock is held while it trains; a process that was killed leaves "running" and no lock.

    Args:
        folder: The run folder.
        facts: Of ``run.json``; folders of earlier versions have none, and their rows must say it.
        rounds: Rounds done.
        planned: Rounds planned.
        failed: Whether the last round was given up.
    """
    if is_held(folder):
        return "running"
    said = facts.get("status")
    if said in _ENDED:
        return said  # type: ignore[no-any-return]
    if said is None and planned is not None and rounds >= planned:
        return "finished"
    return "failed" if said is None and failed else "interrupted"


def method_of(config: Mapping[str, Any]) -> str:
    """Names what a config trains with.

    >>> method_of({"federation": {"aggregator": {"class_path": "a.FedAvg"}, "plugins": [{"class_path": "b.MixStyle"}]}})
    'FedAvg + MixStyle'
    """
    federation = _mapping(config.get("federation"))
    parts = [federation.get("aggregator"), *(federation.get("plugins") or ())]
    return " + ".join(name for name in map(_class, parts) if name)


def age(folder: Path) -> float | None:
    """Seconds since a run's record last changed."""
    for name in ("metrics.jsonl", "run.json", "config.yaml", "."):
        try:
            return max(time.time() - (folder / name).stat().st_mtime, 0.0)
        except OSError:
            continue
    return None


def _record(folder: Path) -> Record:
    config, facts, rows = read_settings(folder), read_status(folder), read_rows(folder)
    rounds = [row for row in rows if row["kind"] == "round"]
    done = _done(rows)
    planned = facts.get("rounds") or _mapping(config.get("federation")).get("rounds")
    best = next((row["round"] for row in reversed(rounds) if row.get("selected")), None)
    validated = {row["site"]: row.get("dice") for row in rows if row["kind"] == "val" and row["round"] == best}
    failed = bool(rounds) and rounds[-1]["round"] not in done
    return Record(
        path=str(folder),
        status=status_of(folder, facts, max(done, default=0), planned, failed),
        method=facts.get("method") or method_of(config),
        sites=facts.get("sites") or sorted({row["site"] for row in rows if row["kind"] == "fit"}),
        held_out=facts.get("held_out") or _held_out(config),
        rounds=max(done, default=0),
        planned=planned,
        best_round=best,
        val_dice=next((row.get("mean_dice") for row in rounds if row["round"] == best), None),
        held_out_dice=_held_out_dice(rows, best),
        megabytes=_megabytes(rounds),
        seconds=age(folder),
        site_dice=validated,
    )


def _done(rows: Sequence[Row]) -> set[int]:
    """Rounds that count; one that was given up has a row, but no site that trained."""
    worked = {row["round"] for row in rows if row["kind"] == "fit"}
    return {row["round"] for row in rows if row["kind"] == "round" and row["round"] in worked}


def _held_out(config: Mapping[str, Any]) -> list[str]:
    named = _mapping(_mapping(config.get("data")).get("init_args")).get("held_out")
    return [named] if isinstance(named, str) else list(named or ())


def _held_out_dice(rows: Sequence[Row], best: int | None) -> float | None:
    tested = [row for row in rows if row["kind"] == "test" and row.get("split") == "held-out"]
    tested = [row for row in tested if row["round"] == best] or tested
    for model in (*_MODELS, *dict.fromkeys(row.get("model") for row in tested)):
        dices = [row["dice"] for row in tested if row.get("model") == model and row.get("dice") is not None]
        if dices:
            return fmean(dices)
    return None


def _megabytes(rounds: Sequence[Row]) -> float | None:
    parts = ("bytes_down", "bytes_up", "bytes_evaluate")
    sums = [sum(row.get(part) or 0 for part in parts) for row in rounds]
    return fmean(sums) / 1e6 if sums else None


def _class(part: Any) -> str:
    path = part if isinstance(part, str) else _mapping(part).get("class_path", "")
    return str(path).rpartition(".")[2]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
