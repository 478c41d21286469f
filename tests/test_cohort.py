"""Claims about who takes part in a round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlight.cohort import Cohorts, Sampling, panel, plan, read_trace
from fedlight.federation import Federation
from fedlight.preparation import ConfigError
from fedlight.randomness import generator
from tests.conftest import small_sites, small_task
from tests.test_resume import StopError, final, rows, stop_after

Federate = Callable[..., Federation]
SITES = tuple("abcdefghij")


def test_fixed_draws_the_first_of_the_shuffled_sites_in_the_sites_own_order() -> None:
    order = torch.randperm(10, generator=generator(5, 3, "cohort")).tolist()
    assert Cohorts(SITES, 0.3, seed=5).draw(3) == tuple(sorted(SITES[index] for index in order[:3]))


def test_fixed_takes_every_site_equally_often() -> None:
    """Each of 10 sites is in 3 of 10 places: 600 of 2000 rounds, with a deviation of sqrt(2000 * 0.3 * 0.7) = 20.5."""
    cohorts = Cohorts(SITES, 0.3)
    drawn = [cohorts.draw(number) for number in range(1, 2001)]
    assert all(len(cohort) == 3 for cohort in drawn)
    assert all(abs(sum(site in cohort for cohort in drawn) - 600) < 4 * 20.5 for site in SITES)


def test_poisson_lets_sites_take_part_independently_of_each_other() -> None:
    """Of 2000 rounds a site is in 600, and two sites are both in 180, deviations 20.5 and 12.8; sizes vary by 2.1.

    That a round is empty has probability 0.7^10 = 0.028; drawing it again raises a share of 0.3 to 0.309.
    """
    cohorts = Cohorts(SITES, 0.3, "poisson")
    drawn = [cohorts.draw(number) for number in range(1, 2001)]
    assert all(abs(sum(site in cohort for cohort in drawn) - 2000 * 0.309) < 4 * 20.5 for site in SITES)
    assert abs(sum({"a", "b"} <= set(cohort) for cohort in drawn) - 2000 * 0.0926) < 4 * 12.8
    sizes = torch.tensor([float(len(cohort)) for cohort in drawn])
    assert abs(float(sizes.var()) - 2.1) < 0.4
    assert sizes.min() >= 1


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_a_round_draws_the_same_whatever_was_drawn_before(sampling: Sampling) -> None:
    cohorts = Cohorts(SITES, 0.4, sampling, min_sites=2)
    forwards = [cohorts.draw(number) for number in range(1, 30)]
    assert forwards == [cohorts.draw(number) for number in reversed(range(1, 30))][::-1]
    assert len(set(forwards)) > 20
    assert all(len(cohort) >= 2 for cohort in forwards)


def test_the_cohort_is_drawn_among_the_sites_that_can_be_reached(tmp_path: Path) -> None:
    """Round 2 of the file has too few sites and is left out; after its end the file begins anew."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps([["a", "b", "c"], ["d"], ["h", "i", "j"]]))
    cohorts = plan(SITES, 0.2, "fixed", 2, 0, str(path))
    drawn = [set(cohorts.draw(number)) for number in range(1, 41)]
    assert all(len(cohort) == 2 for cohort in drawn)
    assert set().union(*drawn[::2]) == {"a", "b", "c"}
    assert set().union(*drawn[1::2]) == {"h", "i", "j"}


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_a_trace_in_which_all_can_be_reached_changes_nothing(sampling: Sampling) -> None:
    always = Cohorts(SITES, 0.3, sampling, trace=[frozenset(SITES)])
    plain = Cohorts(SITES, 0.3, sampling)
    assert [always.draw(number) for number in range(1, 20)] == [plain.draw(number) for number in range(1, 20)]


def test_a_csv_file_has_one_line_for_every_site_that_can_be_reached_in_a_round(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("round,site\n10,b\n2,a\n2,c\n")
    assert read_trace(path, SITES) == [frozenset("ac"), frozenset("b")]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("none.csv", None, "No such file"),
        ("a.csv", "round,name\n1,a\n", "no column 'site'"),
        (".", None, r"must be a file that can be read, got .* \(Is a directory\)\. Check the path"),
        ("a.csv", "round,site\n1,a\nfirst,a\n", r"line 3 has 'first' as round and 'a' as site\)\. A line is"),
        ("a.csv", "round,site\n1\n", "line 2 has '1' as round and '' as site"),
        ("a.csv", "", "must hold one round or more, but .* is empty"),
        ("a.csv", "round,site\n", "must hold one round or more, but .* is empty"),
        ("a.json", "", "must hold one round or more, but .* is empty"),
        ("a.json", "[]", "must hold one round or more, but .* is empty"),
        ("a.json", "{}", "no list of lists"),
        ("a.json", "[1]", "no list of lists"),
        ("a.json", "[", "Expecting value"),
        ("a.json", '[["a", "x"]]', r"must name sites of the federation that train, got x in .*\.json\. Take it out"),
        ("a.json", '[["a", "z"]]', r"got z in .*\.json, which is held out\. Take it out"),
        ("a.json", '[["a"], ["b"]]', r"must have a round with min_sites \(2\) sites or more"),
    ],
)
def test_a_trace_that_cannot_be_used_is_refused(tmp_path: Path, name: str, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        plan(SITES, 0.5, "fixed", 2, 0, str(tmp_path / name), held_out=["z"])


def test_poisson_that_would_hardly_ever_have_enough_sites_is_refused() -> None:
    """Nine or ten of ten with 0.3 each: 10 * 0.3^9 * 0.7 + 0.3^10 = 0.00014."""
    with pytest.raises(ValueError, match=r"got 0\.3 \(chance 0\.0001\)"):
        plan(SITES, 0.3, "poisson", 9, 0, None)


def test_a_panel_is_drawn_once_for_all_rounds() -> None:
    assert panel(SITES, None, 0) == SITES
    drawn = panel(SITES, 4, 7)
    assert len(drawn) == 4
    assert drawn == tuple(sorted(drawn)) == panel(SITES, 4, 7)
    assert len({panel(SITES, 4, seed) for seed in range(20)}) > 10


def test_only_the_panel_scores_the_rounds_but_all_are_scored_in_the_end(federate: Federate) -> None:
    federation = federate(evaluate_sites=2, rounds=2)
    folder = federation.fit(small_task(), small_sites())
    scored = {(row["round"], row["site"]) for row in rows(folder.path) if row["kind"] == "val"}
    assert scored == {(number, site) for number in (1, 2) for site in panel(("site1", "site2", "site3"), 2, 0)}
    evaluations = federate().validate(small_task(), small_sites(), ckpt_path=str(folder.path))
    assert [one.site for one in evaluations] == ["site1", "site2", "site3"]


@pytest.mark.parametrize("number", [0, 4])
def test_a_panel_that_there_cannot_be_is_refused(federate: Federate, number: int) -> None:
    with pytest.raises(ConfigError, match=rf"evaluate_sites must be in \[1, 3\], got {number}"):
        federate(evaluate_sites=number).fit(small_task(), small_sites())


def test_a_resumed_run_has_the_cohorts_of_an_uninterrupted_one(federate: Federate, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("round,site\n1,site1\n1,site2\n2,site3\n3,site2\n3,site3\n")
    settings: dict[str, Any] = {
        "cohort": 0.5,
        "sampling": "poisson",
        "availability": str(trace),
        "evaluate_sites": 1,
        "rounds": 5,
        "local_steps": 1,
        "optimizer_state": "keep",
    }
    whole = federate(**settings, run_folder=str(tmp_path / "whole")).fit(small_task(), small_sites())
    first = federate(**settings)
    stop_after(first, 2)
    with pytest.raises(StopError):
        first.fit(small_task(), small_sites())
    parts = federate(**settings).fit(small_task(), small_sites(), ckpt_path="last")
    assert final(parts.path) == final(whole.path)
    assert rows(parts.path) == rows(whole.path)
