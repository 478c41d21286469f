"""Wilcoxon's signed-rank test of every arm against a reference at every held-out site, adjusted after Holm."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fedlight.benchmark.scores import Scores


def wilcoxon(scores: Scores, checkpoint: str = "best", reference: str = "fedavg", metric: str = "dice") -> pd.DataFrame:
    """Tests every arm at every held-out site, over cases (each the mean over seeds).

    Returns:
        One row an arm and site: arm, site, median (of arm - reference), p, p_holm, cases, seeds.
    """
    raise NotImplementedError


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values after Holm; NaN stays NaN and does not count."""
    raise NotImplementedError
