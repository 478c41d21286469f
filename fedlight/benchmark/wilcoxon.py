"""Wilcoxon's signed-rank test of every arm against a reference at every held-out site, adjusted after Holm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fedlight.benchmark.paired import pairs
from fedlight.benchmark.scores import Scores
from fedlight.benchmark.variants import held_out_cases


def wilcoxon(scores: Scores, checkpoint: str = "best", reference: str = "fedavg", metric: str = "dice") -> pd.DataFrame:
    """Tests every arm at every held-out site: two-sided, over cases, each the mean over seeds.

    The p-value is about the cases of a site, given the models that were trained: it does not know that another training
    would have given other models. Oracle rows and a second annotator are not tested.

    Returns:
        One row an arm and site, sorted: arm, site, median (of the cases' differences, arm - reference), p, p_holm
        (adjusted over all rows), cases, seeds.
    """
    differences = pairs(held_out_cases(scores.cases, checkpoint), reference, metric)
    tested = differences[differences["kind"] == "arm"]
    by_case = tested.groupby(["arm", "held_out", "case"])["difference"].mean()
    seeds = tested.groupby(["arm", "held_out"])["seed"].nunique()
    rows = [
        (arm, site, values.median(), signed_rank(values.to_numpy()), len(values), int(seeds[arm, site]))
        for (arm, site), values in by_case.groupby(["arm", "held_out"])
    ]
    frame = pd.DataFrame(rows, columns=["arm", "site", "median", "p", "cases", "seeds"])
    frame.insert(4, "p_holm", np.array(holm(frame["p"]), dtype=float))
    return frame


def signed_rank(differences: Sequence[float]) -> float:
    """Returns the two-sided p-value that differences are symmetric about 0; zeros are dropped, as Wilcoxon did.

    Exact up to 50 cases without ties, else by the normal approximation; 1 where all are 0.

    >>> signed_rank([0.1, 0.2, 0.3, 0.4])  # all of one sign: 2 of the 16 assignments of signs
    0.125
    """
    from scipy import stats

    given = np.round(np.asarray(differences, dtype=float), 9)  # scores have five decimals, so the rest is rounding
    kept = given[given != 0]
    if not len(kept):
        return 1.0 if len(given) else float("nan")
    ties = len(np.unique(np.abs(kept))) < len(kept)
    method = "exact" if len(kept) <= 50 and not ties else "asymptotic"
    return float(stats.wilcoxon(kept, method=method).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values after Holm: the k-th smallest of m times m - k + 1, never below a smaller one's, at most 1.

    NaN stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03])  # 0.01 * 3; 0.03 * 2; 0.04 * 1, but not below 0.06
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=float)
    order = [int(index) for index in np.argsort(given) if np.isfinite(given[index])]
    adjusted, running = np.full(len(given), np.nan), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, float(given[index]) * (len(order) - rank)))
        adjusted[index] = running
    return [float(value) for value in adjusted]
