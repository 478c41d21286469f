"""Differences between an arm and a reference on the same case, after training with the same seed and held-out site."""

from __future__ import annotations

import pandas as pd

from fedlight.benchmark.scores import Scores

DRAWS = 10_000


def paired(
    scores: Scores,
    checkpoint: str = "best",
    reference: str = "fedavg",
    metric: str = "dice",
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compares every arm with a reference.

    Returns:
        One row an arm but the reference: arm, kind, difference (arm - reference), low, high (interval for these
        institutions), low_sites, high_sites (interval for institutions in general), sites_better, sites, cells, cases.
    """
    raise NotImplementedError
