"""The names that a run's numbers have in W&B: ``<site>/val_dice``, ``mean/val_dice``, ``held_out/dice``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedlight.tracking.summary import mean, without_help, worst
from fedlight.tracking.tracker import RoundRecord
from fedlight.update import Evaluation


def round_row(record: RoundRecord, by_site: bool = True) -> dict[str, float]:
    """Names the numbers of a round as W&B shows them.

    Args:
        record: The round.
        by_site: Whether to name those of every site too; W&B becomes slow with many thousand names.

    >>> round_row(RoundRecord(3, 9, ("a",), (), (Evaluation("a", 3, 5, {"dice": 0.5}),), seconds={"fit": 2.0}))
    {'round': 3, 'a/val_dice': 0.5, 'mean/val_dice': 0.5, 'worst/val_dice': 0.5, 'federation/failures': 0, \
'federation/bytes_down': 0, 'federation/bytes_up': 0, 'federation/seconds_fit': 2.0}
    >>> list(round_row(RoundRecord(3, 9, ("a",), (), (Evaluation("a", 3, 5, {"dice": 0.5}),)), by_site=False))[:3]
    ['round', 'mean/val_dice', 'worst/val_dice']
    """
    row: dict[str, float] = {"round": record.round}
    for site in record.sites if by_site else ():
        numbers = {**site.metrics, "bytes_down": site.bytes_down, "bytes_up": site.bytes_up}
        row |= {f"{site.site}/{name}": value for name, value in numbers.items()}
    row |= _scores(record.evaluations, "val", by_site)
    row["federation/failures"] = len(record.failures)
    row["federation/bytes_down"] = sum(site.bytes_down for site in record.sites)
    row["federation/bytes_up"] = sum(site.bytes_up for site in record.sites)
    row |= {f"federation/{name}": value for name, value in record.metrics.items()}
    row |= {f"federation/seconds_{phase}": seconds for phase, seconds in record.seconds.items()}
    return _finite(row)


def tested(split: str, model: str, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Names the scores of a tested model; a site's own model gets a place of its own.

    Of several held-out institutions there is the mean, and every one by its name.

    >>> scores = [Evaluation("drive", 3, 20, {"dice": 0.5})]
    >>> tested("held-out", "global", scores), tested("held-out", "hrf", scores)
    ({'held_out/dice': 0.5}, {'own_models/hrf/held_out/dice': 0.5})
    >>> tested("held-out", "global [tta flips]", scores)
    {'tta flips/held_out/dice': 0.5}
    """
    if split == "held-out":
        scores = {f"held_out/{name}": value for name, value in _means(evaluations).items()}
        if len(evaluations) > 1:
            scores |= {f"held_out/{e.site}/{name}": value for e in evaluations for name, value in e.metrics.items()}
    else:
        scores = _scores(evaluations, split)
    name, help = without_help(model)
    prefix = (f"{help.replace(', ', '/')}/" if help else "") + ("" if name == "global" else f"own_models/{name}/")
    return _finite({prefix + name: value for name, value in scores.items()})


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Joins the names of nested values.

    >>> flat({"best": {"round": 7}, "rounds": 9})
    {'best/round': 7, 'rounds': 9}
    """
    joined: dict[str, Any] = {}
    for name, value in values.items():
        joined |= flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return joined


def _means(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics)
    averages = {name: mean(evaluations, name) for name in names}
    return {name: value for name, value in averages.items() if value is not None}


def _scores(evaluations: Sequence[Evaluation], split: str, by_site: bool = True) -> dict[str, float]:
    named = evaluations if by_site else ()
    scores = {f"{e.site}/{split}_{name}": value for e in named for name, value in e.metrics.items()}
    for name in dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics):
        average, last = mean(evaluations, name), worst(evaluations, name)
        if average is not None and last is not None:
            scores |= {f"mean/{split}_{name}": average, f"worst/{split}_{name}": last.metrics[name]}
    return scores


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
