"""One result on disk: ``job.json`` and ``cases.csv`` of a job, read and checked.

What is checked is what would otherwise become a wrong number: that the folder says what the file says, that scores are
numbers in their range, that no case counts twice, and that no site is both held out and in the federation.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedlight.benchmark.layout import FORMAT, KEYS

JOB = ("arm", "held_out", "seed")
METRICS = ("dice", "iou", "miss", "hd95", "assd", "ece", "brier")
_NAMES = {"domain": ("held-out", "in-federation"), "checkpoint": ("best", "last")}
_SHARES = ("dice", "iou", "miss")


class ResultsError(ValueError):
    """Results that cannot be read or do not belong together: one sentence with value, rule and way out."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a job left.

    Attributes:
        folder: Where it lies.
        record: Its ``job.json``.
        cases: Its ``cases.csv`` as text; empty for a failed job, whose cases do not count.
    """

    folder: Path
    record: dict[str, Any]
    cases: str

    @property
    def job(self) -> tuple[str, str, int]:
        """Arm, held-out site (or "a+b", sorted) and seed."""
        return self.record["arm"], "+".join(sorted(self.record["held_out"])), self.record["seed"]

    @property
    def ok(self) -> bool:
        """Whether the job ended well."""
        return bool(self.record["status"] == "ok")

    @property
    def nested(self) -> bool:
        """Whether the job leaves two sites out."""
        return len(self.record["held_out"]) == 2

    def agrees(self, other: Result) -> bool:
        """Whether another result of the same job says the same; what a clock or a machine adds does not matter."""
        same = all(self.record.get(key) == other.record.get(key) for key in ("status", "fingerprint", "curve"))
        return same and self.cases == other.cases


def find(folder: Path) -> list[Path]:
    """Lists the folders of all results in the output of a benchmark or in a ``results`` folder, sorted.

    A folder without ``job.json`` is a job that has not ended and is not listed.
    """
    root = folder / "results" if (folder / "results").is_dir() else folder
    return sorted(path.parent for path in root.glob("*/*/seed*/job.json"))


def read(folder: Path) -> Result:
    """Reads one result and checks its record.

    Raises:
        ResultsError: If a file is missing or damaged, or the record is not that of the folder.
    """
    record = _record(folder / "job.json")
    expected = (folder.parts[-3], folder.parts[-2], folder.name)
    stated = (record["arm"], "+".join(sorted(record["held_out"])), f"seed{record['seed']}")
    if stated != expected:
        raise ResultsError(
            f"{folder}/job.json must be of the job that its folder names, got {'/'.join(stated)}. Move it back."
        )
    if record["status"] == "failed":
        return Result(folder, record, "")
    try:
        return Result(folder, record, (folder / "cases.csv").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ResultsError(f"{folder}/cases.csv must be readable, got {reason}. Run the job again.") from error


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ResultsError(f"{path} must be JSON, got {reason}. Run the job again.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise ResultsError(f"{path} must have format {FORMAT}, got {found}. Read it with the fedlight that wrote it.")
    wrong = [name for name, right in _RULES.items() if not right(record.get(name))]
    if wrong:
        found = f"{wrong[0]} {record.get(wrong[0])!r}"
        raise ResultsError(f"{path} must have {', '.join(_RULES)} of a job, got {found}. Run the job again.")
    return record


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_sites(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value) in (1, 2)


_RULES: dict[str, Callable[[object], bool]] = {
    "arm": _is_text,
    "held_out": _are_sites,
    "seed": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "status": lambda value: value in ("ok", "failed"),
}


def tables(results: Sequence[Result]) -> pd.DataFrame:
    """Returns the cases of results, one result below the other.

    Returns:
        ``JOB``, ``KEYS`` (str), then ``METRICS`` and what there is by class (float64, NaN where undefined).

    Raises:
        ResultsError: If columns are missing, a score is not a number in its range, a case counts twice or a site is on
            the wrong side.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cases.partition("\n")[0], []).append(result)
    frames = [_checked(group) for group in groups.values()]
    return pd.concat([_no_cases(), *frames], ignore_index=True) if len(frames) != 1 else frames[0]


def _no_cases() -> pd.DataFrame:
    text, numbers = dict.fromkeys(("arm", "held_out", *KEYS), str), dict.fromkeys(METRICS, float)
    return pd.DataFrame(columns=[*JOB, *KEYS, *METRICS]).astype({**text, "seed": int, **numbers})


def _checked(results: Sequence[Result]) -> pd.DataFrame:
    """Reads results that have the same columns; at once, which is many times faster than one by one."""
    frame = _parsed(results)
    owners = pd.Series([results[number] for number in frame["result"]], index=frame.index, dtype=object)
    _check_keys(frame, owners)
    _check_numbers(frame, owners)
    _check_sides(frame, owners, results)
    jobs = pd.DataFrame([result.job for result in results], columns=list(JOB)).iloc[frame["result"]]
    rest = [name for name in frame.columns if name not in (*KEYS, *METRICS, "result")]
    scores = frame.reindex(columns=[*KEYS, *METRICS, *rest])
    return pd.concat([jobs.reset_index(drop=True), scores], axis=1)


def _parsed(results: Sequence[Result]) -> pd.DataFrame:
    """Returns the columns as they are written, and which result a row is of."""
    header = results[0].cases.partition("\n")[0].strip()
    missing = [name for name in (*KEYS, "dice") if name not in header.split(",")]
    if missing:
        raise _refusal(results[0], f"have the columns {', '.join((*KEYS, 'dice'))}", f"no {missing[0]}")
    bodies = [_body(result.cases) for result in results]
    text = dict.fromkeys(KEYS, str)  # a case may be called 001, a site NA
    file = StringIO("\n".join([header, *filter(None, bodies)]))
    counts = [body.count("\n") + 1 if body else 0 for body in bodies]
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):  # a row that is too long
            frame = pd.read_csv(file, dtype=text, keep_default_na=False, na_values=[""], index_col=False)
        return frame.assign(result=np.repeat(np.arange(len(results)), counts))
    except (ValueError, pd.errors.ParserWarning) as error:  # the parser's errors are ValueErrors
        for result in results if len(results) > 1 else ():
            _parsed([result])  # says whose it is
        raise _refusal(results[0], "be a table", " ".join(str(error).split())) from error


def _body(text: str) -> str:
    return text.replace("\r\n", "\n").partition("\n")[2].strip("\n")


def _check_keys(frame: pd.DataFrame, owners: pd.Series) -> None:
    keys = frame[["result", *KEYS]]
    _refuse(keys.isna().any(axis=1), owners, f"name {', '.join(KEYS)} in every row", "an empty one")
    for name, allowed in _NAMES.items():
        _refuse(~keys[name].isin(allowed), owners, f"have a {name} of {' or '.join(allowed)}", keys[name])
    _refuse(keys.duplicated(), owners, "have one row a case, checkpoint and model", "two of " + keys["case"])


def _check_numbers(frame: pd.DataFrame, owners: pd.Series) -> None:
    for name in frame.columns.difference(["result", *KEYS]):
        numbers = pd.to_numeric(frame[name], errors="coerce").astype(float)
        _refuse(numbers.isna() & frame[name].notna(), owners, f"have a number as {name}", frame[name])
        share = name.split("/")[0] in _SHARES
        highest, rule = (1.0, "in [0, 1]") if share else (np.finfo(float).max, "finite and not negative")
        _refuse(numbers.notna() & ~numbers.between(0.0, highest), owners, f"have {name} {rule}", frame[name])
        frame[name] = numbers


def _check_sides(frame: pd.DataFrame, owners: pd.Series, results: Sequence[Result]) -> None:
    held_out = {(number, site) for number, result in enumerate(results) for site in result.record["held_out"]}
    places = list(zip(frame["result"], frame["site"], strict=True))
    wrong = pd.Series([place in held_out for place in places], dtype=bool) != (frame["domain"] == "held-out")
    _refuse(wrong, owners, "score a site as held-out exactly where the job leaves it out", frame["site"])
    for number, site in sorted(held_out - set(places)):
        raise _refusal(results[number], "have cases of every held-out site", f"none of {site}")


def _refuse(wrong: pd.Series, owners: pd.Series, rule: str, found: str | pd.Series) -> None:
    """Raises for the first row that is wrong."""
    if wrong.any():
        first = wrong.idxmax()
        raise _refusal(owners[first], rule, found if isinstance(found, str) else str(found[first]))


def _refusal(result: Result, rule: str, found: str) -> ResultsError:
    return ResultsError(f"{result.folder}/cases.csv must {rule}, got {found}. Run the job again.")
