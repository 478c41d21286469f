"""Which of a run's two models is scored, and where the scores of its cases are kept."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fedlight_algorithms import FedAvg, Local

from fedlight.federation import Federation
from fedlight.update import Evaluation
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]


def numbers(evaluations: Sequence[Evaluation]) -> list[Any]:
    return [(one.site, dict(one.metrics), one.cases) for one in evaluations]


@pytest.mark.parametrize("aggregator", [FedAvg(), Local()])
def test_the_last_model_is_what_a_run_that_selects_the_last_keeps(
    federate: Federate, tmp_path: Path, aggregator: Any
) -> None:
    """Both runs train alike; one keeps its best round, the other its last."""
    scores = {}
    for select in ("best", "last"):
        federation = federate(aggregator=aggregator, select=select, run_folder=str(tmp_path / select))
        federation.fit(small_task(), small_sites())
        scores[select] = federation.test(small_task(), small_sites(), which="last")
        if select == "last":
            assert numbers(federation.test(small_task(), small_sites())) == numbers(scores["last"])
    assert numbers(scores["best"]) == numbers(scores["last"])


def test_scores_of_both_models_are_kept_apart(federate: Federate) -> None:
    federation = federate(rounds=2)
    folder = federation.fit(small_task(), small_sites()).path
    for which in ("selected", "last"):
        federation.test(small_task(), small_sites(), which=which)
    for split in ("test", "held_out"):
        for ending in ("", "_last"):
            with (folder / f"{split}_cases{ending}.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert {"case", "dice", "hd95", "ece", "brier"} <= set(rows[0])


def test_several_institutions_can_be_held_out(federate: Federate, tmp_path: Path) -> None:
    """Two of four sites train; of the others every case is a test case, of the former one in six."""
    both = federate(run_folder=str(tmp_path / "both"))
    both.fit(small_task(), small_sites(held_out=["site3", "site4"]))
    scored = {one.site: one for one in both.test(small_task(), small_sites(held_out=["site3", "site4"]))}
    assert list(scored) == ["site1", "site2", "site3", "site4"]
    assert (scored["site3"].num_cases, scored["site1"].num_cases) == (6, 1)
    with (tmp_path / "both" / "held_out_cases.csv").open() as file:
        assert [row["site"] for row in csv.DictReader(file)] == ["site3"] * 6 + ["site4"] * 6
