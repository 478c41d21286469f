"""The run folder's own record: ``metrics.jsonl``, the source of truth, and ``metrics.csv`` beside it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlight.errors import DamagedFileError
from fedlight.tracking.rows import CSV_HEADER, Row, cell, csv_lines, round_rows, tested_rows
from fedlight.tracking.tracker import RoundRecord, RunInfo, Tracker
from fedlight.update import Evaluation


class JsonlTracker(Tracker):
    """Writes every number of a run into its folder, one row a fact, on disk before the next round starts.

    - ``metrics.jsonl``: one JSON object a row (see ``fedlight.tracking.rows``); undefined numbers are null.
    - ``metrics.csv``: the same numbers, one a line.
    - ``test_cases.csv``, ``held_out_cases.csv``, ``val_cases.csv``: one line a case and model; where the
      model of the last round was scored, its files end in ``_last.csv``.

    A round that is trained again after a crash replaces its rows and all later ones, and a line that a crash tore is
    removed, so a resumed run leaves the files of an uninterrupted one (except for times). Opening a finished run to
    test it removes nothing.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._in_sequence = False

    def start(self, run: RunInfo) -> None:
        self._folder, self._in_sequence, self._scoring = run.folder, False, run.scoring
        run.folder.mkdir(parents=True, exist_ok=True)
        self._keep(lambda row: True)

    def on_round(self, record: RoundRecord) -> None:
        if not self._in_sequence:
            self._keep(lambda row: row["round"] < record.round)
            self._in_sequence = True
        self._append(round_rows(record))

    def on_test(
        self, split: str, model: str, evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        new = tested_rows(split, model, evaluations)
        again = {_subject(row) for row in new}
        self._keep(lambda row: _subject(row) not in again)
        self._append(new)
        if rows:
            self._write_cases(split, model, rows)

    @property
    def _jsonl(self) -> Path:
        return self._opened / "metrics.jsonl"

    @property
    def _csv(self) -> Path:
        return self._opened / "metrics.csv"

    @property
    def _opened(self) -> Path:
        if self._folder is None:
            raise RuntimeError("JsonlTracker has no run folder yet. Call start(run) before the first round.")
        return self._folder

    def _append(self, rows: Sequence[Row]) -> None:
        _append(self._jsonl, _as_jsonl(rows), to_disk=True)
        _append(self._csv, _as_csv(rows), to_disk=False)  # written anew from the other when a run is opened

    def _keep(self, wanted: Callable[[Row], bool]) -> None:
        rows = [row for row in read_rows(self._opened) if wanted(row)]
        _write(self._jsonl, _as_jsonl(rows))
        _write(self._csv, _csv_text([CSV_HEADER]) + _as_csv(rows))

    def _write_cases(self, split: str, model: str, rows: Sequence[Mapping[str, Any]]) -> None:
        last = "_last" if self._scoring == "last" else ""
        path = self._opened / f"{split.replace('-', '_')}_cases{last}.csv"
        others = [row for row in _read_csv(path) if row["model"] != model]
        cases = [*others, *({"model": model, **row} for row in rows)]
        names = list(dict.fromkeys(name for case in cases for name in case))
        _write(path, _csv_text([names, *([cell(case.get(name)) for name in names] for case in cases)]))


def read_rows(folder: Path) -> list[Row]:
    """Reads ``metrics.jsonl`` of a run folder; a last line that a crash tore is left out.

    Args:
        folder: The run folder; without the file there are no rows.

    Raises:
        ValueError: A line before the last is not a JSON object.
    """
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = [_parsed(line) for line in lines]
    if rows and rows[-1] is None:
        rows.pop()
    return [_checked(row, number, path) for number, row in enumerate(rows, start=1)]


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"round", "kind"} <= row.keys() else None


def _checked(row: Row | None, number: int, path: Path) -> Row:
    if row is None:
        raise DamagedFileError(
            f'Line {number} of {path} is damaged: every line must be a JSON object with "round" and "kind". '
            "Restore the file, or move it away to start a new one."
        )
    return row


def _subject(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("kind", "round", "split", "model", "site"))


def _as_jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _as_csv(rows: Iterable[Row]) -> str:
    return _csv_text(line for row in rows for line in csv_lines(row))


def _csv_text(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, text: str, to_disk: bool) -> None:
    # opened for every round: nothing to lose in a crash, nothing to close, and a vanished folder is noticed
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            _flush(file, text, to_disk)
    except OSError as error:
        raise _named(error, path) from error


def _write(path: Path, text: str) -> None:
    """Replaces a file in one step, unless it holds the text already."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("w", encoding="utf-8", newline="") as file:
            _flush(file, text, to_disk=True)
        aside.replace(path)
    except OSError as error:
        raise _named(error, path) from error


def _flush(file: io.TextIOWrapper, text: str, to_disk: bool) -> None:
    file.write(text)
    file.flush()  # survives the process
    if to_disk:
        os.fsync(file.fileno())  # survives the machine; about 4 ms


def _named(error: OSError, path: Path) -> OSError:
    """A full disk is reported without a file name; adds it."""
    return type(error)(error.errno, error.strerror, str(path))
