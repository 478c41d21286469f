"""Results of a benchmark as they lie on disk, read and checked: cases, curves and jobs as pandas frames.

A result is a folder ``<arm>/<held-out site>/seed<k>/`` with ``job.json`` and ``cases.csv``; a nested job leaves two
sites out and lies in ``<arm>/<a>+<b>/seed<k>/``. A folder without ``job.json`` is a job that has not ended; it counts
as missing. Of a failed job no case is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

HUMAN = "human"
"""The arm of a second annotator, where there is one."""

KEYS = ("domain", "checkpoint", "model", "site", "case")
METRICS = ("dice", "iou", "miss", "hd95", "assd", "ece", "brier")


class ResultsError(ValueError):
    """Results that cannot be read or do not belong together: one sentence with value, rule and way out."""


@dataclass(frozen=True, slots=True)
class Scores:
    """All results of a benchmark.

    Attributes:
        cases: One row a case, checkpoint and model of the jobs that leave one site out: arm, held_out, seed (int),
            domain ("held-out" or "in-federation"), checkpoint ("best" or "last"), model, site, case (all str), then
            ``METRICS`` and, with several foreground classes, "<metric>/<class>" (float64, NaN where undefined).
        nested: The same columns of the jobs that leave two sites out; held_out is "a+b", sorted.
        curves: arm, held_out, seed, round, val_dice, worst_dice, train_loss, megabytes (cumulative).
        jobs: One row a job, nested and failed ones included: arm, held_out, seed, nested (bool), status ("ok" or
            "failed"), reason, seconds, processor_seconds, selected_round, rounds, val_dice (mean Dice over the
            training sites' validation cases in the selected round), last_val_dice (in the last evaluated round),
            megabytes (of the whole training), num_parameters, commit, fedlight, fingerprint, folder (str).
        records: The ``job.json`` of every job, in the order of ``jobs``.
        classes: Names of the foreground classes.
        distance_unit: "px" or "mm".
    """

    cases: pd.DataFrame
    nested: pd.DataFrame
    curves: pd.DataFrame
    jobs: pd.DataFrame
    records: tuple[dict[str, object], ...]
    classes: tuple[str, ...]
    distance_unit: str

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that have a job, failed ones included, sorted; without ``human``."""
        raise NotImplementedError

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that are held out in a job that leaves one out, sorted."""
        raise NotImplementedError

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the arms, sorted."""
        raise NotImplementedError


def load(folders: str | Path | Sequence[str | Path]) -> Scores:
    """Reads the results of one or several folders as their union.

    Args:
        folders: Outputs of ``fedlight benchmark``, or the ``results`` folders in them. The same result may be in
            several of them.

    Raises:
        ResultsError: If there is no result, one cannot be read, two differ for one job, or they are not of one data
            set (units, classes).
    """
    raise NotImplementedError
