"""Differences between an arm and a reference on the same case, after training with the same seed and held-out site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fedlight.benchmark.bootstrap import NONE, Array, interval, mean, over_sites, resample, site_means
from fedlight.benchmark.layout import HUMAN
from fedlight.benchmark.scores import Scores
from fedlight.benchmark.variants import held_out_cases

DRAWS = 10_000


def pairs(cases: pd.DataFrame, reference: str, metric: str = "dice") -> pd.DataFrame:
    """Returns the difference of every arm to a reference, case by case.

    A second annotator has no seeds, so each of his cases is paired with the reference of every seed.

    Args:
        cases: As ``held_out_cases`` returns them.
        reference: An arm in them. Without results of it there are no pairs.
        metric: A column of numbers. A pair in which one side is undefined is left out.

    Returns:
        arm, kind, held_out, seed, case, difference (arm - reference); without the reference itself.
    """
    other = cases.loc[cases["arm"] == reference, ["held_out", "seed", "case", metric]]
    rest = cases[cases["arm"] != reference]
    human = rest["kind"] == HUMAN
    joined = [
        rest[~human].merge(other, on=["held_out", "seed", "case"], suffixes=("", "_reference")),
        rest[human].drop(columns="seed").merge(other, on=["held_out", "case"], suffixes=("", "_reference")),
    ]
    frame = pd.concat(joined, ignore_index=True)
    frame["difference"] = frame[metric] - frame[f"{metric}_reference"]
    return frame[["arm", "kind", "held_out", "seed", "case", "difference"]].dropna(subset="difference")


def paired(
    scores: Scores,
    checkpoint: str = "best",
    reference: str = "fedavg",
    metric: str = "dice",
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compares every arm with a reference on the same cases.

    The difference is the mean over held-out sites of the mean over seeds of the mean over cases, of the pairs that
    there are. ``low`` and ``high`` are the bootstrap interval for *these* institutions: within every held-out site,
    seeds (K - 1 of K) and cases (n - 1 of n, one draw for all seeds) are drawn with replacement, ``draws`` times, and
    the percentile interval is stretched for few seeds; the module ``bootstrap`` says why, and where its limits are.
    ``low_sites`` and ``high_sites`` are the interval for institutions *in general*, Student's t over the means of the
    sites: with few sites it is wide, and it says no more than that.

    Args:
        scores: Results.
        checkpoint: "best" or "last".
        reference: The arm to compare with.
        metric: A metric of ``scores.cases``. Distances count where both arms found the structure.
        draws: Of the bootstrap.
        seed: Of the bootstrap; the same for all arms.
        level: Of both intervals.

    Returns:
        One row an arm but the reference: arm, kind, difference (arm - reference), low, high, low_sites, high_sites,
        sites_better (how many sites have a mean difference above 0), sites, seeds (the fewest of a site), cells (pairs
        of held-out site and seed), cases (of all sites, each once). Sorted by arm. NaN and 0 without a pair.
    """
    cases = held_out_cases(scores.cases, checkpoint)
    return compare(cases, reference, metric, draws, seed, level)


def compare(
    cases: pd.DataFrame, reference: str, metric: str = "dice", draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """Does what ``paired`` says with cases from ``held_out_cases``."""
    blocks = _blocks(pairs(cases, reference, metric))
    sites = sorted({site for arm in blocks.values() for site in arm})
    drawn = resample(
        [{arm: block[site] for arm, block in blocks.items() if site in block} for site in sites], draws, seed
    )
    kinds = cases.loc[cases["arm"] != reference].groupby("arm")["kind"].first()
    rows = [
        {"arm": arm, "kind": kind, **_row(blocks.get(arm, {}), drawn.get(arm), level)} for arm, kind in kinds.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "kind", *_row({}, None, level)])


def _blocks(differences: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Returns by arm and held-out site: (seeds, cases), NaN where there is no pair."""
    blocks: dict[str, dict[str, Array]] = {}
    for (arm, site), rows in differences.groupby(["arm", "held_out"]):
        seeds, cases = (pd.factorize(rows[name], sort=True) for name in ("seed", "case"))
        block = np.full((len(seeds[1]), len(cases[1])), np.nan)
        block[seeds[0], cases[0]] = rows["difference"]
        blocks.setdefault(arm, {})[site] = block
    return blocks


def _row(blocks: Mapping[str, Array], drawn: Array | None, level: float) -> dict[str, Any]:
    sites = list(blocks.values())
    means = site_means(sites)
    low, high = NONE if drawn is None else interval(sites, drawn, level)
    low_sites, high_sites = over_sites(means, level)
    return {
        "difference": mean(sites) if sites else float("nan"),
        "low": low,
        "high": high,
        "low_sites": low_sites,
        "high_sites": high_sites,
        "sites_better": int((means > 0).sum()),
        "sites": len(sites),
        "seeds": min((len(values) for values in sites), default=0),
        "cells": sum(len(values) for values in sites),
        "cases": sum(values.shape[1] for values in sites),
    }
