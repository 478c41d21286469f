"""Means over cases, seeds and sites for every arm: at institutions that took no part, and within the federation."""

from __future__ import annotations

import pandas as pd

from fedlight.benchmark.scores import Scores


def headline(scores: Scores, checkpoint: str = "best", reference: str = "fedavg") -> pd.DataFrame:
    """Summarises every arm at the institutions that took no part, best mean Dice first, oracle and human rows last.

    Returns:
        One row an arm: arm, kind ("arm", "oracle", "human"), dice, dice_sd (over seeds), worst_site, worst_site_dice,
        worst_decile, iou, hd95, assd, miss, ece, brier, val_dice, rank, difference, low, high, low_sites, high_sites
        (as ``paired`` has them), jobs, planned, failed, complete (bool).
    """
    raise NotImplementedError


def in_federation(scores: Scores, checkpoint: str = "best") -> pd.DataFrame:
    """Summarises every arm on the test cases of the sites that trained.

    Returns:
        One row an arm: arm, kind, dice, dice_sd, worst_site, worst_site_dice, worst_decile, iou, hd95, assd, miss, ece,
        brier, jobs, planned, failed, complete.
    """
    raise NotImplementedError


def per_site(scores: Scores, checkpoint: str = "best", metric: str = "dice") -> pd.DataFrame:
    """Returns a metric of every arm at every held-out site: arm, kind, site, value, sd (over seeds), seeds, cases."""
    raise NotImplementedError


def per_class(scores: Scores, checkpoint: str = "best") -> pd.DataFrame:
    """Returns dice, iou, hd95, assd and miss of every arm and foreground class: arm, kind, class, metrics."""
    raise NotImplementedError
