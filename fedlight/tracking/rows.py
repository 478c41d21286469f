"""What a run's numbers look like as rows: one object a fact in ``metrics.jsonl``, one line a number in ``metrics.csv``.

Every row has "round" and "kind":

- "fit": what a site did in a round, and the bytes that it was sent and sent back;
- "val": how the new global model does on the validation cases of an institution;
- "failure": a site that gave no usable answer;
- "round": the last row of a round: its cohort, times, bytes, and mean and worst of the validation Dice;
- "test": how a model does on an institution, with the "split" and the "model".

What a clock measured has a name that begins with "seconds"; all else is the same when a run is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedlight.tracking.summary import mean, worst
from fedlight.tracking.tracker import RoundRecord, SiteRound
from fedlight.update import Evaluation, SiteFailure

Row = dict[str, Any]

CSV_HEADER = ("round", "site", "kind", "name", "value", "split", "model")
_PLACES = ("round", "site", "kind", "split", "model")
_NOT_NUMBERS = frozenset({*_PLACES, "cohort", "phase", "cause", "reason", "worst_site"})


def round_rows(record: RoundRecord) -> list[Row]:
    """Turns a round into its rows; the row of kind "round" comes last and so marks the round as complete."""
    return [
        *(_fit_row(record.round, site) for site in record.sites),
        *(_scores(evaluation, record.round, "val") for evaluation in record.evaluations),
        *(_failure_row(failure) for failure in record.failures),
        _whole_round_row(record),
    ]


def tested_rows(split: str, model: str, evaluations: Sequence[Evaluation]) -> list[Row]:
    """Turns the scores of one model into a row an institution."""
    where = {"split": split, "model": model}
    return [_scores(evaluation, evaluation.round, "test", where) for evaluation in evaluations]


def csv_lines(row: Row) -> Iterator[tuple[str, ...]]:
    """Yields one line of ``metrics.csv`` for every number of a row; an undefined number leaves its value empty.

    A site that failed has a line with the phase and the kind of failure as its name and the value 1.

    >>> list(csv_lines({"round": 2, "kind": "val", "site": "a", "cases": 3, "dice": 0.1}))
    [('2', 'a', 'val', 'cases', '3', '', ''), ('2', 'a', 'val', 'dice', '0.1', '', '')]
    >>> list(csv_lines({"round": 2, "kind": "failure", "site": "a", "phase": "fit", "cause": "lost", "reason": "..."}))
    [('2', 'a', 'failure', 'fit/lost', '1', '', '')]
    """
    if row["kind"] == "failure":
        yield (str(row["round"]), row["site"], "failure", f"{row['phase']}/{row['cause']}", "1", *_where(row))
    for name, value in row.items():
        if name not in _NOT_NUMBERS:
            yield (str(row["round"]), row.get("site", ""), row["kind"], name, cell(value), *_where(row))


def cell(value: object) -> str:
    """Writes a value for a CSV file: floats keep all their digits, undefined values are empty, truth is 1.

    >>> [cell(value) for value in (0.1, 3, float("nan"), None, True, "Case01")]
    ['0.1', '3', '', '', '1', 'Case01']
    """
    value = plain(value)
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def plain(value: object) -> object:
    """Makes a value fit for JSON: a number that is not finite becomes None, a number of another library a float.

    >>> [plain(value) for value in (0.5, 3, float("inf"), "a")]
    [0.5, 3, None, 'a']
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    number = float(value)  # type: ignore[arg-type]  # a float, or a scalar of numpy or torch
    return number if math.isfinite(number) else None


def _fit_row(round: int, site: SiteRound) -> Row:
    known = {"round": round, "kind": "fit", "site": site.site, "samples": site.num_samples}
    traffic = {"bytes_down": site.bytes_down, "bytes_up": site.bytes_up, **site.parts}
    return _with_metrics(known | traffic, site.metrics)


def _scores(evaluation: Evaluation, round: int, kind: str, where: Mapping[str, str] | None = None) -> Row:
    known = {"round": round, "kind": kind, **(where or {}), "site": evaluation.site, "cases": evaluation.num_cases}
    return _with_metrics(known, evaluation.metrics)


def _failure_row(failure: SiteFailure) -> Row:
    what = {"phase": failure.phase, "cause": failure.kind, "reason": failure.reason}
    return {"round": failure.round, "kind": "failure", "site": failure.site, **what}


def _whole_round_row(record: RoundRecord) -> Row:
    row: Row = {"round": record.round, "kind": "round", "cohort": list(record.cohort)}
    row |= {"failures": len(record.failures), "selected": record.selected}
    row |= {"bytes_down": sum(s.bytes_down for s in record.sites), "bytes_up": sum(s.bytes_up for s in record.sites)}
    row |= {"bytes_evaluate": record.bytes_evaluate}
    last = worst(record.evaluations, "dice")
    if last is not None:
        row |= {"mean_dice": mean(record.evaluations, "dice")}
        row |= {"worst_dice": plain(last.metrics["dice"]), "worst_site": last.site}
    row |= {f"seconds_{phase}": plain(seconds) for phase, seconds in record.seconds.items()}
    return _with_metrics(row, record.metrics)


def _with_metrics(known: Row, metrics: Mapping[str, float]) -> Row:
    # a plugin may log any name: one that is taken gets a prefix, so that neither value is lost
    return known | {(f"metric/{name}" if name in known else name): plain(value) for name, value in metrics.items()}


def _where(row: Row) -> tuple[str, str]:
    return row.get("split", ""), row.get("model", "")
