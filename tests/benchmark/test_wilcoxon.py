"""Signed ranks and Holm's adjustment by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fedlight.benchmark.wilcoxon import holm, signed_rank, wilcoxon
from tests.benchmark.results import scores_of


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 are 0.02, 0.03, 0.06, 0.04; the last may not be below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stops_at_one_and_does_not_count_what_is_undefined() -> None:
    """Two tests count: 0.4 * 2 = 0.8, then 0.9 * 1."""
    adjusted = holm([0.9, math.nan, 0.4])
    assert (adjusted[0], adjusted[2]) == pytest.approx((0.9, 0.8))
    assert math.isnan(adjusted[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_signed_rank_by_hand() -> None:
    """Ranks 1, 2, 3 with signs -, +, +: W- = 1; of 8 sign patterns 2 have at most 1 on that side, so p = 4 / 8."""
    assert signed_rank([-0.1, 0.2, 0.3]) == pytest.approx(0.5)


def test_zeros_are_dropped_ties_are_allowed_and_nothing_is_no_evidence() -> None:
    assert signed_rank([0.0, -0.1, 0.2, 0.3]) == pytest.approx(0.5)
    assert signed_rank([0.0, 0.0]) == 1.0
    assert signed_rank([0.3 - 0.2 - 0.1, 0.0]) == 1.0  # 2.8e-17 is no difference
    assert 0 < signed_rank([0.1, 0.1, -0.1]) <= 1
    assert math.isnan(signed_rank([]))


def test_a_case_counts_once_however_many_seeds_there_are() -> None:
    """Differences 0.1, 0.2, 0.3 in both seeds; all of one sign, so p = 2 / 8; 0.25 * 1 as it is the one test."""
    dice = {("fedavg", "a", seed): [0.5, 0.5, 0.5] for seed in (0, 1)}
    dice |= {("x", "a", seed): [0.6, 0.7, 0.8] for seed in (0, 1)}
    (row,) = wilcoxon(scores_of(dice)).to_dict("records")
    assert (row["median"], row["p"], row["p_holm"]) == pytest.approx((0.2, 0.25, 0.25))
    assert (row["cases"], row["seeds"]) == (3, 2)


def test_all_arms_and_sites_are_one_family_without_oracles_and_humans() -> None:
    """Two arms at two sites: the smallest p of 4 is multiplied by 4; p of three cases of one sign is 0.25."""
    equal = [0.5, 0.5, 0.5]
    dice: dict[tuple[str, str, int], Any] = {(arm, site, 0): equal for arm in ("fedavg", "human") for site in "ab"}
    dice |= {("x", site, 0): [0.6, 0.7, 0.8] for site in "ab"}
    dice |= {("local", site, 0): {"p": [0.1, 0.2, 0.3], "q": [0.2, 0.3, 0.4]} for site in "ab"}
    frame = wilcoxon(scores_of(dice))
    assert list(zip(frame["arm"], frame["site"], strict=True)) == [
        ("local (mean)", "a"),
        ("local (mean)", "b"),
        ("x", "a"),
        ("x", "b"),
    ]
    assert set(frame["p"]) == {0.25}
    assert set(frame["p_holm"]) == {1.0}


def test_without_the_reference_there_is_no_test() -> None:
    assert len(wilcoxon(scores_of({("x", "a", 0): [0.5, 0.6]}))) == 0
