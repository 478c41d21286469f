"""Follows a run from outside: the lines that its own console prints, made of the rows that it writes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlight.errors import DamagedFileError
from fedlight.messages import did_you_mean
from fedlight.run_lock import is_held
from fedlight.tracking import ConsoleTracker, RoundRecord, RunInfo, SiteRound, read_status
from fedlight.tracking.rows import Row
from fedlight.update import Evaluation, SiteFailure
from fedlight.watching.record import Record, is_run, read_record

CODES = {"finished": 0, "failed": 1, "interrupted": 130}
KILLED = 137
"""What a process has that was killed, as shells say it; its folder still says "running"."""

_FIT = frozenset({"round", "kind", "site", "samples", "bytes_down", "bytes_up"})
_VAL = frozenset({"round", "kind", "site", "cases"})


class Rounds:
    """Reads the complete rounds of a ``metrics.jsonl`` that grows, and that a run which goes on writes anew.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._file = 0  # its number on the disk: a record that is written anew is another file
        self._read = 0  # bytes
        self._rows: list[Row] = []

    def new(self) -> Iterator[list[Row]]:
        """Yields the rows of every round that is complete since the last call; again from the first if written anew."""
        for row in self._new_rows():
            self._rows.append(row)
            if row["kind"] == "round":
                yield self._rows
                self._rows = []
            elif row["kind"] == "test":
                self._rows.pop()

    def _new_rows(self) -> Iterator[Row]:
        try:
            with self._path.open("rb") as file:
                self._begin_anew_if_written_anew(file.fileno())
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            yield _parsed(line, self._path)

    def _begin_anew_if_written_anew(self, descriptor: int) -> None:
        known = os.fstat(descriptor)
        if known.st_ino != self._file or known.st_size < self._read:
            self._file, self._read, self._rows = known.st_ino, 0, []


def follow(
    folder: Path,
    tracker: ConsoleTracker,
    say: Callable[[str], object],
    pause: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Shows a run until it ends and returns its exit code.

    Args:
        folder: The run folder; it need not exist yet.
        tracker: Shows it.
        say: Takes what is said beside it.
        pause: Seconds between looks.
        sleep: Waits; tests bring their own.
    """
    if not _begun(folder):
        say(f"waiting for {folder}, in which no run has begun{_near(folder)}")
    while not _begun(folder):
        sleep(pause)
    rounds, started = Rounds(folder), False
    shown: dict[int, int] = {}
    while True:
        at_work = is_held(folder)  # asked first: what is written while it works is read below
        facts = read_status(folder)
        if not started and (facts or not at_work):
            tracker.start(_info(folder, facts, read_record(folder)))
            started = True
        if started:
            for rows in rounds.new():
                _show(rows, shown, int(facts.get("rounds") or 0), tracker)
        record = None if at_work else read_record(folder)
        if record is not None and record.status != "running":
            return _end(record, facts, tracker, say)
        sleep(pause)


def _near(folder: Path) -> str:
    """Offers the runs beside a folder whose names are most like its own: it may be a slip."""
    beside = folder.absolute().parent
    runs = [each.name for each in beside.iterdir() if is_run(each)] if beside.is_dir() else []
    hint = did_you_mean(folder.name, runs).rstrip()
    return f". {hint}" if hint else ""


def round_record(rows: Sequence[Row], rounds: int) -> RoundRecord:
    """Makes the record of a round of its rows, which ``fedlight.tracking.rows`` made of it.

    Args:
        rows: Of one round; that of kind "round" is the last.
        rounds: Rounds planned; it is not in the rows.
    """
    whole = rows[-1]
    seconds = {name.removeprefix("seconds_"): value for name, value in whole.items() if name.startswith("seconds_")}
    return RoundRecord(
        round=whole["round"],
        rounds=max(rounds, whole["round"]),
        cohort=tuple(whole["cohort"]),
        sites=tuple(_site(row) for row in rows if row["kind"] == "fit"),
        evaluations=tuple(_evaluation(row) for row in rows if row["kind"] == "val"),
        failures=tuple(_failure(row) for row in rows if row["kind"] == "failure"),
        seconds={name: value for name, value in seconds.items() if value is not None},
        selected=bool(whole.get("selected")),
        bytes_evaluate=whole.get("bytes_evaluate", 0),
    )


def _show(rows: Sequence[Row], shown: dict[int, int], rounds: int, tracker: ConsoleTracker) -> None:
    """Shows a round unless it was shown as it is.

    A run that goes on writes its rows anew: those that count are the same, a round that did not count comes again.
    """
    number, mark = rows[-1]["round"], hash(repr(rows))
    if shown.get(number) != mark:
        shown[number] = mark
        tracker.on_round(round_record(rows, rounds))


def _end(record: Record, facts: Mapping[str, Any], tracker: ConsoleTracker, say: Callable[[str], object]) -> int:
    if record.problem is not None:
        raise DamagedFileError(record.problem)
    killed = record.status == "interrupted" and facts.get("status") == "running"
    tracker.finish(record.status, {})  # type: ignore[arg-type]  # it has ended
    if killed:
        say("its process ended without a word; fedlight fit with --ckpt_path last goes on")
    return KILLED if killed else CODES[record.status]


def _begun(folder: Path) -> bool:
    return is_run(folder) or is_held(folder)


def _info(folder: Path, facts: Mapping[str, Any], record: Record) -> RunInfo:
    return RunInfo(
        name=str(facts.get("name") or folder.name),
        folder=folder,
        config={},
        sites=tuple(record.sites),
        held_out=tuple(record.held_out),
        classes=tuple(facts.get("classes") or ()),
        rounds=record.planned or record.rounds,
        local_steps=facts.get("local_steps") or {},
        num_parameters=facts.get("num_parameters") or 0,
        method=record.method,
        num_samples=facts.get("num_samples") or {},
        distance_unit=facts.get("distance_unit") or "px",
    )


def _site(row: Row) -> SiteRound:
    numbers = {name: value for name, value in row.items() if name not in _FIT and value is not None}
    parts = {name: value for name, value in numbers.items() if name.startswith(("bytes_down/", "bytes_up/"))}
    metrics = {name: value for name, value in numbers.items() if name not in parts}
    return SiteRound(row["site"], row["samples"], metrics, row["bytes_down"], row["bytes_up"], parts)


def _evaluation(row: Row) -> Evaluation:
    metrics = {name: value for name, value in row.items() if name not in _VAL and value is not None}
    return Evaluation(row["site"], row["round"], row["cases"], metrics)


def _failure(row: Row) -> SiteFailure:
    return SiteFailure(row["site"], row["round"], row["phase"], row["cause"], row["reason"])


def _parsed(line: bytes, path: Path) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: a line is not JSON. Restore the file, or move it away.") from error
    if not isinstance(row, dict) or not {"round", "kind"} <= row.keys():
        raise DamagedFileError(f"{path} is damaged: a line lacks its round or kind. Restore the file, or move it away.")
    return row
