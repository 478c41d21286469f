"""The three claims of the project, each with its numbers and a verdict."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from fedlight.benchmark.scores import Scores

STYLE = frozenset({"mixstyle"})
ALIGNMENT = frozenset({"fedavg_align"})


def claims(
    scores: Scores,
    checkpoint: str = "best",
    reference: str = "fedavg",
    style: Collection[str] = STYLE,
    alignment: Collection[str] = ALIGNMENT,
    margin: float = 0.02,
) -> pd.DataFrame:
    """Judges the three claims.

    Returns:
        One row a comparison: claim (1, 2, 3), statement, arm, against, difference, low, high, low_sites, high_sites,
        sites_better, sites, decisive (bool: this row decides the claim), verdict ("holds", "does not hold",
        "not shown"), note.
    """
    raise NotImplementedError
