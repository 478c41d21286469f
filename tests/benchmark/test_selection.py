"""The rules pick by what they may see, and are scored by what they may not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from fedlight.benchmark.scores import Scores
from fedlight.benchmark.selection import NESTED, ORACLE, REFERENCE, VALIDATION, selection
from tests.benchmark.results import scores_of

DICE: dict[tuple[str, str, int], Any] = {
    **{("fedavg", site, 0): [0.5] for site in "abc"},
    **{("x", site, 0): [0.6] for site in "abc"},
    **{("y", site, 0): [0.4] for site in "abc"},
}


def picks(scores: Scores, rule: str, **settings: Any) -> dict[str, tuple[str, float]]:
    frame = selection(scores, **settings)
    rows = frame[frame["rule"] == rule].to_dict("records")
    return {row["site"]: (row["arm"], row["dice"]) for row in rows}


def with_validation(scores: Scores, validation: Mapping[tuple[str, str], float]) -> Scores:
    keys = zip(scores.jobs["arm"], scores.jobs["held_out"], strict=True)
    scores.jobs["val_dice"] = pd.Series([validation.get(key, math.nan) for key in keys], dtype=float)
    return scores


def test_source_validation_picks_by_validation_and_scores_at_the_held_out_site() -> None:
    """Arm y has the highest validation Dice where a is held out, and scores 0.4 there; elsewhere fedavg."""
    validation = {("y", "a"): 0.9, **{("fedavg", site): 0.8 for site in "abc"}, ("x", "b"): 0.7}
    found = picks(with_validation(scores_of(DICE), validation), VALIDATION)
    assert found == {"a": ("y", 0.4), "b": ("fedavg", 0.5), "c": ("fedavg", 0.5)}


def test_the_last_checkpoint_is_picked_by_its_own_validation() -> None:
    scores = with_validation(scores_of(DICE), {("x", "a"): 0.9})
    scores.jobs["last_val_dice"] = [0.9 if arm == "y" else 0.5 for arm in scores.jobs["arm"]]
    scores.cases["checkpoint"] = "last"
    assert picks(scores, VALIDATION, checkpoint="last")["a"] == ("y", 0.4)


def test_the_nested_rule_looks_only_at_the_other_site_of_a_pair() -> None:
    """For a: x scores 0.1 at b and 0.2 at c, fedavg 0.3 and 0.3; what either scores at a does not count."""
    nested: dict[tuple[str, str, int], Any] = {
        ("fedavg", "a+b", 0): {"a": [0.0], "b": [0.3]},
        ("fedavg", "a+c", 0): {"a": [0.0], "c": [0.3]},
        ("fedavg", "b+c", 0): {"b": [0.3], "c": [0.3]},
        ("x", "a+b", 0): {"a": [0.9], "b": [0.1]},
        ("x", "a+c", 0): {"a": [0.9], "c": [0.2]},
        ("x", "b+c", 0): {"b": [0.9], "c": [0.9]},
    }
    frame = selection(scores_of(DICE | nested)).query("rule == @NESTED").set_index("site")
    assert list(frame["arm"]) == ["fedavg", "x", "x"]
    assert frame.at["a", "criterion"] == pytest.approx(0.3)
    assert frame.at["b", "criterion"] == pytest.approx((0.9 + 0.9) / 2)  # at a in a+b, at c in b+c
    assert frame.at["a", "dice"] == 0.5
    assert list(frame["candidates"]) == [2, 2, 2]


def test_an_arm_that_lacks_a_nested_job_is_no_candidate() -> None:
    """Arm x would win at c with its one easy pair."""
    nested: dict[tuple[str, str, int], Any] = {
        ("fedavg", "a+c", 0): {"a": [0.3], "c": [0.3]},
        ("fedavg", "b+c", 0): {"b": [0.3], "c": [0.3]},
        ("x", "a+c", 0): {"a": [0.9], "c": [0.9]},
        ("x", "b+c", 0): None,
    }
    assert picks(scores_of(DICE | nested), NESTED)["c"] == ("fedavg", 0.5)


def test_the_oracle_is_the_best_that_a_federation_could_choose() -> None:
    """Neither pooled data nor a site alone nor a human is a choice, also with something added."""
    others: dict[tuple[str, str, int], Any] = {(arm, "a", 0): [0.9] for arm in ("pooled", "pooled+bigaug", "human")}
    others["local", "a", 0] = {"b": [0.9], "c": [0.9]}
    scores = scores_of(DICE | others)
    assert picks(scores, ORACLE)["a"] == ("x", 0.6)
    assert picks(scores, REFERENCE)["a"] == ("fedavg", 0.5)


def test_a_rule_without_what_it_needs_picks_nothing() -> None:
    frame = selection(scores_of(DICE)).query("rule == @NESTED")
    assert set(frame["arm"]) == {""}
    assert frame["dice"].isna().all()
    assert set(frame["candidates"]) == {0}


def test_an_arm_that_failed_where_it_is_needed_is_no_candidate_for_validation() -> None:
    scores = with_validation(scores_of(DICE | {("x", "a", 0): None}), {("x", "a"): 0.9, ("y", "a"): 0.8})
    assert picks(scores, VALIDATION)["a"] == ("y", 0.4)
