"""Intervals hold what they promise, and follow hand-derived numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedlight.benchmark.bootstrap import Array, degrees_of_freedom, interval, mean, over_sites, resample, site_means


def drawn(sites: list[Array], draws: int = 2000) -> Array:
    return resample([{"arm": values} for values in sites], draws, seed=0)["arm"]


def study(random: np.random.Generator, effects: Array, seeds: int, cases: int, noise: float) -> list[Array]:
    """Differences that cluster: every site has an effect, every job one of its own, every case one for all seeds."""
    jobs = noise * random.standard_normal((len(effects), seeds, 1))
    of_cases = noise * random.standard_normal((len(effects), 1, cases))
    rest = noise * random.standard_normal((len(effects), seeds, cases))
    return list(effects[:, None, None] + jobs + of_cases + rest)


def test_the_interval_holds_the_mean_over_these_sites_in_about_95_of_100_studies() -> None:
    """With 300 studies the share of a true 95 % has a standard error of 1.3 %."""
    random, effects = np.random.default_rng(0), np.array([0.03, 0.0, -0.01, 0.02])
    held = 0
    for _ in range(300):
        sites = study(random, effects, seeds=3, cases=20, noise=0.01)
        low, high = interval(sites, drawn(sites, 400), 0.95)
        held += low <= 0.01 <= high
    assert 0.93 <= held / 300 <= 0.99


def test_the_interval_over_sites_holds_the_mean_over_all_institutions_in_about_95_of_100_studies() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        effects = 0.01 + 0.02 * random.standard_normal(4)
        low, high = over_sites(site_means(study(random, effects, seeds=3, cases=20, noise=0.01)), 0.95)
        held += low <= 0.01 <= high
    assert 0.93 <= held / 1000 <= 0.97


def test_draws_have_the_unbiased_variance_of_a_mean_over_seeds() -> None:
    """Seeds 0, 1, 2 of one case: variance 1, so that of their mean is 1/3; drawing 3 of 3 would give 2/9."""
    draws = drawn([np.array([[0.0], [1.0], [2.0]])], 20_000)
    assert np.var(draws) == pytest.approx(1 / 3, rel=0.03)
    assert np.mean(draws) == pytest.approx(1.0, abs=0.02)


def test_the_same_cases_are_drawn_for_all_seeds() -> None:
    """If the seeds agree on every case, three of them say no more about the cases than one."""
    cases = np.linspace(0, 1, 10)
    three = interval([np.stack([cases] * 3)], drawn([np.stack([cases] * 3)]), 0.95)
    assert three == pytest.approx(interval([cases[None]], drawn([cases[None]]), 0.95))


def test_degrees_of_freedom_are_those_of_the_seeds_where_only_they_vary() -> None:
    """Two sites of three seeds with equal variances: 2 + 2. Equal cases add none."""
    seeds = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 5))
    assert degrees_of_freedom([seeds, seeds]) == pytest.approx(4.0)
    assert degrees_of_freedom([np.ones((3, 5))]) == math.inf


def test_an_interval_over_two_sites_by_hand() -> None:
    """Means 0 and 2: standard error 1, one degree of freedom, t = 12.706."""
    assert over_sites(np.array([0.0, 2.0]), 0.95) == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-3)
    assert all(map(math.isnan, over_sites(np.array([1.0]), 0.95)))


def test_where_nothing_varies_the_interval_is_a_point_and_of_one_number_there_is_none() -> None:
    constant = [np.full((3, 4), 0.25)]
    assert interval(constant, drawn(constant), 0.95) == pytest.approx((0.25, 0.25))
    assert all(map(math.isnan, interval([np.array([[0.25]])], drawn([np.array([[0.25]])]), 0.95)))


def test_what_is_undefined_is_left_out() -> None:
    """Site one: seeds 0.5 and (0.5 + 1) / 2; site two has nothing. The mean is (0.5 + 0.75) / 2."""
    sites = [np.array([[0.5, np.nan], [0.5, 1.0]]), np.full((1, 2), np.nan)]
    assert mean(sites) == pytest.approx(0.625)
    assert np.isfinite(drawn(sites)).any()
    low, high = interval(sites, drawn(sites), 0.95)
    assert low <= 0.625 <= high


def test_all_arms_see_the_same_draws_whatever_else_is_compared() -> None:
    random = np.random.default_rng(0)
    values, other = random.standard_normal((3, 8)), random.standard_normal((2, 8))
    together = resample([{"a": values, "b": other, "c": values + 1}], 100, seed=0)
    assert together["c"] == pytest.approx(together["a"] + 1)
    assert np.array_equal(together["a"], resample([{"a": values}], 100, seed=0)["a"])
    assert not np.array_equal(together["a"], resample([{"a": values}], 100, seed=1)["a"])
