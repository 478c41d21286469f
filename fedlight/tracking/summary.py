"""Scores of many institutions as the rows that people read: every site, mean, worst, and the held-out institution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from fedlight.metric_names import is_higher_better
from fedlight.update import Evaluation

READING = (
    "Mean and worst are over sites, column by column. "
    "Masks both empty: Dice 1, distance 0; one empty: Dice 0, distance = image diagonal."
)
"""What the numbers of a table mean; stated under every table."""

_NAMES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "assd": "ASSD"}
_DISTANCES = frozenset({"hd95", "assd"})
_OF_ALL = {"mean": "mean of the models", "ensemble": "ensemble of the models"}


@dataclass(frozen=True, slots=True)
class Score:
    """One model on one institution.

    Attributes:
        model: "global", the name of the site whose own model it is, or "mean" or "ensemble" of the sites' models; what
            helped it at test time stands behind it in brackets.
        split: "held-out", "test" or "val".
    """

    model: str
    split: str
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of a table; ``cases`` is None and ``label`` says which statistic it is where it is not one institution.

    Attributes:
        values: One a column; None where a metric is undefined.
    """

    label: str
    kind: Literal["site", "mean", "worst", "held-out"]
    cases: int | None
    values: tuple[float | None, ...]


def mean(evaluations: Iterable[Evaluation], metric: str) -> float | None:
    """Averages a metric over institutions, each counting once; those where it is undefined are left out.

    >>> sites = [Evaluation("a", 1, 90, {"dice": 0.5}), Evaluation("b", 1, 10, {"dice": 1.0})]
    >>> mean([*sites, Evaluation("c", 1, 5, {})], "dice")
    0.75
    """
    values = [value for value in (_value(evaluation, metric) for evaluation in evaluations) if value is not None]
    return fmean(values) if values else None


def worst(evaluations: Iterable[Evaluation], metric: str) -> Evaluation | None:
    """Returns the institution that a metric is worst at; of equals the first, of none where it is defined None.

    >>> sites = [Evaluation("a", 1, 9, {"dice": 0.5, "hd95": 4.0}), Evaluation("b", 1, 9, {"dice": 0.6, "hd95": 7.0})]
    >>> worst(sites, "dice").site, worst(sites, "hd95").site
    ('a', 'b')
    """
    defined = [evaluation for evaluation in evaluations if _value(evaluation, metric) is not None]
    sign = 1 if is_higher_better(metric) else -1
    return min(defined, key=lambda evaluation: sign * evaluation.metrics[metric], default=None)


def columns(evaluations: Iterable[Evaluation]) -> tuple[str, ...]:
    """Lists the metrics that a table shows: those of the four that are there, then the Dice of each of several classes.

    >>> columns([Evaluation("a", 1, 9, {"loss": 1.0, "iou": 0.4, "dice": 0.5, "dice/disc": 0.7, "dice/cup": 0.3})])
    ('dice', 'iou', 'dice/disc', 'dice/cup')
    """
    present = dict.fromkeys(metric for evaluation in evaluations for metric in evaluation.metrics)
    classes = tuple(metric for metric in present if metric.startswith("dice/"))
    return tuple(metric for metric in _NAMES if metric in present) + (classes if len(classes) > 1 else ())


def heading(metric: str, unit: str) -> str:
    """Names a column.

    >>> [heading(metric, "mm") for metric in ("dice", "hd95", "dice/cup")]
    ['Dice', 'HD95 mm', 'Dice cup']
    """
    base, _, part = metric.partition("/")
    return " ".join(filter(None, (_NAMES.get(base, base), part, unit if base in _DISTANCES else "")))


def cell(metric: str, value: float | None) -> str:
    """Writes a value with the digits that its metric deserves.

    >>> [cell("dice", 0.71239), cell("hd95", 12.345), cell("dice", None)]
    ['0.7124', '12.35', '-']
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if metric.split("/")[0] in _DISTANCES else f"{value:.4f}"


def score_rows(scores: Sequence[Score], metrics: Sequence[str]) -> list[ScoreRow]:
    """Arranges scores: sites that took part, their mean and worst (column by column), then the held-out institution.

    >>> dices = {"a": 0.5, "b": 0.75}
    >>> val = [Score("global", "val", Evaluation(site, 1, 9, {"dice": dice})) for site, dice in dices.items()]
    >>> unseen = Score("global", "held-out", Evaluation("c", 1, 4, {"dice": 0.25}))
    >>> [(row.label, *row.values) for row in score_rows([unseen, *val], ["dice"])]
    [('a', 0.5), ('b', 0.75), ('mean', 0.625), ('worst', 0.5), ('c (held-out)', 0.25)]
    """
    sites = [score for score in scores if score.split != "held-out"]
    unseen = [score for score in scores if score.split == "held-out"]
    statistics = _statistics([score.evaluation for score in sites], metrics) if sites else []
    return [*_lines(sites, metrics), *statistics, *_lines(unseen, metrics)]


def _statistics(evaluations: Sequence[Evaluation], metrics: Sequence[str]) -> list[ScoreRow]:
    means = tuple(mean(evaluations, metric) for metric in metrics)
    worsts = tuple(_worst_value(evaluations, metric) for metric in metrics)
    return [ScoreRow("mean", "mean", None, means), ScoreRow("worst", "worst", None, worsts)]


def _lines(scores: Sequence[Score], metrics: Sequence[str]) -> list[ScoreRow]:
    return [
        ScoreRow(
            _label(score),
            "held-out" if score.split == "held-out" else "site",
            score.evaluation.num_cases,
            tuple(_value(score.evaluation, metric) for metric in metrics),
        )
        for score in scores
    ]


def without_help(model: str) -> tuple[str, str]:
    """Splits the name of a model from what helped it at test time.

    >>> without_help("global [tta flips]"), without_help("site1")
    (('global', 'tta flips'), ('site1', ''))
    """
    name, _, help = model.partition(" [")
    return name, help.removesuffix("]")


def _label(score: Score) -> str:
    site = score.evaluation.site
    model, help = without_help(score.model)
    notes = ["held-out"] if score.split == "held-out" else []
    if model not in ("global", site):
        notes.append(_OF_ALL.get(model, f"model of {model}"))
    notes += [help] if help else []
    return f"{site} ({', '.join(notes)})" if notes else site


def _worst_value(evaluations: Sequence[Evaluation], metric: str) -> float | None:
    evaluation = worst(evaluations, metric)
    return None if evaluation is None else evaluation.metrics[metric]


def _value(evaluation: Evaluation, metric: str) -> float | None:
    value = evaluation.metrics.get(metric)
    return value if value is not None and math.isfinite(value) else None
