"""Results of a benchmark as pandas frames: cases, curves and jobs of one or several folders, as their union.

A result is a folder ``<arm>/<held-out site>/seed<k>/`` with ``job.json`` and ``cases.csv``; a nested job leaves two
sites out and lies in ``<arm>/<a>+<b>/seed<k>/``. A folder without ``job.json`` is a job that has not ended; it counts
as missing. Of a failed job no case is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedlight.benchmark.layout import HUMAN, KEYS
from fedlight.benchmark.result_folder import JOB, METRICS, Result, ResultsError, find, read, tables

__all__ = ["HUMAN", "KEYS", "METRICS", "ResultsError", "Scores", "load"]

_CURVE = ("round", "val_dice", "worst_dice", "train_loss", "megabytes")
_COPIED = ("seconds", "processor_seconds", "selected_round", "rounds", "num_parameters")
_COPIED_TEXT = ("status", "reason", "commit", "fedlight", "fingerprint")


@dataclass(frozen=True, slots=True)
class Scores:
    """All results of a benchmark.

    Attributes:
        cases: One row a case, checkpoint and model of the jobs that leave one site out: arm, held_out, seed (int),
            domain ("held-out" or "in-federation"), checkpoint ("best" or "last"), model, site, case (all str), then
            ``METRICS`` and, with several foreground classes, "<metric>/<class>" (float64, NaN where undefined).
        nested: The same columns of the jobs that leave two sites out; held_out is "a+b", sorted.
        curves: arm, held_out, seed, round, val_dice, worst_dice, train_loss, megabytes (cumulative).
        jobs: One row a job, nested and failed ones included: arm, held_out, seed, nested (bool), status ("ok" or
            "failed"), reason, seconds, processor_seconds, selected_round, rounds, val_dice (mean Dice over the
            training sites' validation cases in the selected round), last_val_dice (in the last evaluated round),
            megabytes (of the whole training), num_parameters, commit, fedlight, fingerprint, folder (str).
        records: The ``job.json`` of every job, in the order of ``jobs``.
        classes: Names of the foreground classes.
        distance_unit: "px" or "mm".
    """

    cases: pd.DataFrame
    nested: pd.DataFrame
    curves: pd.DataFrame
    jobs: pd.DataFrame
    records: tuple[dict[str, Any], ...]
    classes: tuple[str, ...]
    distance_unit: str

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that have a job that leaves one site out, failed ones included, sorted; without ``HUMAN``."""
        return tuple(sorted(set(self._planned["arm"])))

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that are held out in a job of an arm, sorted."""
        return tuple(sorted(set(self._planned["held_out"])))

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the arms, sorted."""
        return tuple(sorted({int(seed) for seed in self._planned["seed"]}))

    @property
    def _planned(self) -> pd.DataFrame:
        return self.jobs[~self.jobs["nested"] & (self.jobs["arm"] != HUMAN)]


def load(folders: str | Path | Sequence[str | Path]) -> Scores:
    """Reads the results of one or several folders as their union.

    Args:
        folders: Outputs of ``fedlight benchmark``, or the ``results`` folders in them. The same result may be in
            several of them.

    Raises:
        ResultsError: If there is no result, one cannot be read, two differ for one job, or they are not of one data
            set (units, classes, cases).
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    results = _union(read(place) for folder in given for place in find(Path(folder)))
    if not results:
        named = ", ".join(map(str, given)) or "no folder"
        raise ResultsError(
            f"a benchmark's output must hold results/ARM/SITE/seedK/job.json, got none in {named}. "
            "Name the folder that was --output."
        )
    return _scores(sorted(results, key=lambda result: result.job))


def _union(results: Iterable[Result]) -> list[Result]:
    """Keeps one result a job."""
    kept: dict[tuple[str, str, int], Result] = {}
    for result in results:
        first = kept.setdefault(result.job, result)
        if not first.agrees(result):
            raise ResultsError(
                f"a job must have one result, got different ones in {first.folder} and {result.folder}. "
                "Leave one of them out."
            )
    return list(kept.values())


def _scores(results: Sequence[Result]) -> Scores:
    classes = _common(results, "classes", ["background", "foreground"])
    unit = _common(results, "distance_unit", "px")
    cases = tables([result for result in results if result.ok and not result.nested])
    nested = tables([result for result in results if result.ok and result.nested])
    _check_cases(pd.concat([cases, nested]))
    return Scores(
        cases=cases,
        nested=nested,
        curves=_curves(results),
        jobs=_jobs(results),
        records=tuple(result.record for result in results),
        classes=tuple(classes[1:]),
        distance_unit=unit,
    )


def _common(results: Sequence[Result], name: str, default: Any) -> Any:
    """Returns what all records agree on."""
    stated = [result for result in results if result.record.get(name)]
    for other in stated:
        first, found = stated[0].record[name], other.record[name]
        if found != first:
            raise ResultsError(
                f"results must agree on {name}, got {first} in {stated[0].folder} and {found} in {other.folder}. "
                "Report each data set by itself."
            )
    return stated[0].record[name] if stated else default


def _check_cases(cases: pd.DataFrame) -> None:
    """Refuses two arms that were scored on different cases of a held-out site; an annotator may have done a part."""
    scored = cases[(cases["domain"] == "held-out") & (cases["arm"] != HUMAN)]
    groups = scored.groupby([*JOB, "checkpoint", "model", "site"])["case"].agg(lambda names: tuple(sorted(names)))
    for site, sets in groups.groupby("site"):
        if sets.nunique() > 1:
            other = sets.index[sets != sets.iloc[0]][0]
            raise ResultsError(
                f"the cases of {site} must be the same in all results, got {len(sets.iloc[0])} in "
                f"{_name(sets.index[0])} and {len(sets[other])} others in {_name(other)}. "
                "Report each version of the data by itself."
            )


def _name(index: tuple[Any, ...]) -> str:
    return f"{index[0]}/{index[1]}/seed{index[2]}"


def _curves(results: Sequence[Result]) -> pd.DataFrame:
    rows = [
        (*result.job, *(point.get(name) for name in _CURVE))
        for result in results
        for point in result.record.get("curve") or ()
    ]
    frame = pd.DataFrame(rows, columns=[*JOB, *_CURVE])
    return frame.astype({"seed": int, "round": int, **dict.fromkeys(_CURVE[1:], float)})


def _jobs(results: Sequence[Result]) -> pd.DataFrame:
    frame = pd.DataFrame([_job(result) for result in results])
    numbers = (*_COPIED, "val_dice", "last_val_dice", "megabytes")
    return frame.astype(dict.fromkeys(numbers, float))


def _job(result: Result) -> dict[str, Any]:
    record = result.record
    curve = record.get("curve") or []
    evaluated = [point for point in curve if point.get("val_dice") is not None]
    selected = [point["val_dice"] for point in evaluated if point["round"] == record.get("selected_round")]
    return {
        **dict(zip(JOB, result.job, strict=True)),
        "nested": result.nested,
        **{name: record.get(name) or "" for name in _COPIED_TEXT},
        **{name: record.get(name) for name in _COPIED},
        "val_dice": selected[-1] if selected else None,
        "last_val_dice": evaluated[-1]["val_dice"] if evaluated else None,
        "megabytes": curve[-1].get("megabytes") if curve else None,
        "folder": str(result.folder),
    }
