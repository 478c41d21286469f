"""Rules that pick one arm for every held-out site without a look at it, and what they pick."""

from __future__ import annotations

import pandas as pd

from fedlight.benchmark.scores import Scores


def selection(scores: Scores, checkpoint: str = "best", reference: str = "fedavg") -> pd.DataFrame:
    """Applies the two declared rules at every held-out site, with the reference and the oracle beside them.

    Returns:
        One row a rule and site: rule ("source validation", "nested leave-one-source-out", "reference", "oracle"),
        site, arm ("" where the rule cannot pick), criterion (what it was picked by), dice (at the held-out site),
        candidates (number of arms that the rule chose from).
    """
    raise NotImplementedError
