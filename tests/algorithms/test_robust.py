"""Robust aggregators by hand: medians, trimmed means, Krum, the geometric median and clipping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fedlight_algorithms import (
    CoordinateMedian,
    FedAvg,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormClipping,
    TrimmedMean,
)
from fedlight_algorithms.geometric_median import weiszfeld
from fedlight_algorithms.krum import ranking, scores
from fedlight_algorithms.norm_clipping import norm

from fedlight.plugins import Aggregator
from fedlight.plugins.collecting import squared_distances
from fedlight.state import State, digest
from tests.contracts.harness import aggregate, context_of

SITES = "ABCDEFG"


def combined(plugin: Aggregator, values: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
    """Plays a round from 0 in which every site ends at one of the values."""
    sites = SITES[: len(values)]
    given = dict(zip(sites, weights or [1.0] * len(values), strict=True))
    updates: dict[str, State] = {site: {"w": torch.tensor(value)} for site, value in zip(sites, values, strict=True)}
    start: State = {"w": torch.zeros_like(updates["A"]["w"])}
    return aggregate(plugin, context_of(tuple(sites), **given), start, updates)["w"].tolist()  # type: ignore[arg-type]


# --- medians and trimmed means ---------------------------------------------------------------------------------------


def test_median_of_an_odd_number_is_the_middle_one_for_every_parameter() -> None:
    assert combined(CoordinateMedian(), [[1.0, 9.0], [5.0, 7.0], [100.0, 8.0]]) == [5.0, 8.0]


def test_median_of_an_even_number_is_the_mean_of_the_two_in_the_middle() -> None:
    assert combined(CoordinateMedian(), [1.0, 100.0, 2.0, 5.0]) == 3.5


@pytest.mark.parametrize(("trim", "expected"), [(0.0, 22.0), (0.19, 22.0), (0.2, 4.0), (0.4, 3.0)])
def test_trimmed_mean_drops_as_many_at_each_end(trim: float, expected: float) -> None:
    """Of 0, 2, 3, 7, 98: the mean is 22, without the extremes (2 + 3 + 7) / 3 = 4, of the middle one 3."""
    assert combined(TrimmedMean(trim), [98.0, 3.0, 0.0, 7.0, 2.0]) == expected


def test_rounding_does_not_lose_a_site() -> None:
    """0.29 of 100 sites is 29, though 0.29 * 100 is 28.999...: the values 0 to 28 and 71 to 99 go, all -1e6 or 1e6."""
    plugin = TrimmedMean(0.29)
    states: list[State] = [{"w": torch.tensor(-1e6 if k < 29 else 1e6 if k > 70 else 5.0)} for k in range(100)]
    assert plugin.combine(states, [1.0] * 100)["w"].item() == 5


def test_trimming_nothing_under_uniform_weights_is_fedavg() -> None:
    context = context_of(("A", "B", "C"), A=1, B=1, C=1)
    start: State = {"w": torch.zeros(9)}
    updates: dict[str, State] = {site: {"w": torch.linspace(-1, k, 9)} for k, site in enumerate("ABC", 1)}
    results = [aggregate(each, context, start, updates) for each in (TrimmedMean(0.0), FedAvg())]
    assert digest(results[0]) == digest(results[1])


# --- Krum ------------------------------------------------------------------------------------------------------------


def states_of(*values: float) -> list[State]:
    return [{"w": torch.tensor([value])} for value in values]


def test_scores_by_hand() -> None:
    """0, 1, 3, 4.5, 20 with f = 1: the two nearest others count.

    1 + 9, 1 + 4, 4 + 2.25 (not 9), 2.25 + 12.25, 15.5^2 + 17^2.
    """
    squared = squared_distances(states_of(0.0, 1.0, 3.0, 4.5, 20.0))
    assert scores(squared, 1) == [10.0, 5.0, 6.25, 14.5, 15.5**2 + 17.0**2]


def test_krum_takes_the_model_with_the_smallest_score() -> None:
    assert combined(Krum(1), [0.0, 1.0, 3.0, 4.5, 20.0]) == 1.0


@pytest.mark.parametrize(("select", "expected"), [(1, 1.0), (2, 2.0), (3, 4 / 3), (None, 2.125)])
def test_multi_krum_averages_the_models_with_the_smallest_scores(select: int | None, expected: float) -> None:
    """The order is 1, 3, 0, 4.5, 20; all but f = 1 are 0, 1, 3, 4.5, whose mean is 8.5 / 4. Weights have no say."""
    plugin = MultiKrum(num_byzantine=1, num_select=select)
    assert combined(plugin, [0.0, 1.0, 3.0, 4.5, 20.0], [9, 1, 1, 1, 1]) == pytest.approx(expected)


def test_multi_krum_of_all_is_the_plain_mean() -> None:
    assert combined(MultiKrum(num_byzantine=1, num_select=5), [0.0, 1.0, 3.0, 4.5, 20.0]) == pytest.approx(5.7)


def test_ties_go_to_the_model_that_is_closer_to_all() -> None:
    """0, 1, 3 with f = 1: 0 and 1 score 1 each; 1 is at 1 + 4 from the others, 0 at 1 + 9."""
    assert ranking(states_of(0.0, 1.0, 3.0), 1) == ranking(states_of(0.0, 1.0, 3.0), 0) == [1, 0, 2]
    assert ranking(states_of(3.0, 0.0, 1.0), 1) == [2, 1, 0]


def test_distances_of_similar_models_are_not_lost() -> None:
    """In float32, 4096 + 2^-11 differs from 4096 in the last bit; their squared distance is 2^-22."""
    states = states_of(4096.0, 4096.0 + 2.0**-11)
    assert squared_distances(states).tolist() == [[0, 2.0**-22], [2.0**-22, 0]]


# --- the geometric median --------------------------------------------------------------------------------------------


def test_the_middle_of_a_square_is_its_geometric_median() -> None:
    square = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]
    assert combined(GeometricMedian(), square) == pytest.approx([1.0, 1.0])


def test_the_diagonals_of_a_quadrilateral_cross_at_its_geometric_median() -> None:
    """From (0, 0) to (2, 2) and from (2, 0) to (0, 6): y = x and y = 6 - 3 x, so x = 1.5."""
    corners = [[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 6.0]]
    assert combined(GeometricMedian(), corners) == pytest.approx([1.5, 1.5], abs=1e-5)


def test_the_fermat_point_of_a_triangle() -> None:
    """(-1, 0), (1, 0), (0, 5): seen from (0, 1 / sqrt 3) the corners are 120 degrees apart."""
    triangle = [[-1.0, 0.0], [1.0, 0.0], [0.0, 5.0]]
    assert combined(GeometricMedian(), triangle) == pytest.approx([0.0, 3**-0.5], abs=1e-6)


def test_a_mean_that_lies_on_a_site_is_no_trap() -> None:
    """Ten sites at -1, one at 10 and one at their mean, 0, where the search begins: the ten have most of the weight."""
    points = [[0.0, 0.0], [10.0, 0.0], *[[-1.0, 0.0]] * 10]
    plugin, states = GeometricMedian(), [{"w": torch.tensor(point)} for point in points]
    assert plugin.combine(states, [1.0] * 12)["w"].tolist() == pytest.approx([-1.0, 0.0], abs=1e-5)


def test_more_than_half_of_the_weight_decides() -> None:
    """Weights 3, 1, 1: the pulls of the other two cannot move it away."""
    assert combined(GeometricMedian(), [[1.0, 2.0], [9.0, 0.0], [0.0, 50.0]], [3, 1, 1]) == pytest.approx([1.0, 2.0])


def test_a_far_site_pulls_no_harder_the_further_it_is() -> None:
    near, far = (combined(GeometricMedian(), [[0.0, 0.0], [1.0, 0.0], [0.0, y]]) for y in (1e3, 1e6))
    assert near == pytest.approx(far, abs=1e-3)


def test_pulls_balance_at_the_median() -> None:
    """The optimality condition: unit vectors to the points, times their weights, sum to zero."""
    points = torch.tensor([[0.0, 0.0], [3.0, 1.0], [-1.0, 2.0], [1.0, -4.0], [2.0, 2.0]]).double()
    weights = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0]).double()
    pull = weiszfeld(torch.cdist(points, points).square(), weights, 1e-9)
    median = (pull / pull.sum()) @ points
    away = points - median
    assert (weights @ (away / away.norm(dim=1, keepdim=True))).abs().max() < 1e-6


def test_smoothing_beyond_all_distances_is_the_weighted_mean() -> None:
    assert combined(GeometricMedian(smoothing=100.0), [0.0, 8.0], [3, 1]) == 2.0


# --- clipping --------------------------------------------------------------------------------------------------------


def test_clipping_by_hand() -> None:
    """Bound 2.5: A moves by (3, 4), norm 5, halved to (1.5, 2); B by (0, 1), untouched. Weights 1, 3."""
    assert combined(NormClipping(2.5), [[3.0, 4.0], [0.0, 1.0]], [1, 3]) == [0.375, 1.25]


def test_the_norm_runs_over_all_parameters() -> None:
    """(2, 3) and (6): the root of 4 + 9 + 36 is 7."""
    delta: State = {"a": torch.tensor([2.0, 3.0]), "b": torch.tensor([[6.0]])}
    assert norm(delta) == 7


def test_left_out_the_bound_is_the_median_of_the_norms() -> None:
    """Norms 2, 5, 30: (0, 30) becomes (0, 5). The mean of (2, 0), (3, 4), (0, 5) is (5 / 3, 3)."""
    assert combined(NormClipping(), [[2.0, 0.0], [3.0, 4.0], [0.0, 30.0]]) == pytest.approx([5 / 3, 3.0])


def test_an_update_of_zero_is_no_division() -> None:
    for plugin in (NormClipping(), NormClipping(1.0)):
        assert combined(plugin, [[0.0], [0.0]]) == [0.0]


@pytest.mark.parametrize(
    "plugin",
    [
        TrimmedMean(0.5),
        Krum(-1),
        MultiKrum(-1),
        MultiKrum(num_select=0),
        GeometricMedian(0.0),
        NormClipping(0.0),
    ],
)
def test_impossible_arguments_are_refused(plugin: Aggregator) -> None:
    with pytest.raises(ValueError, match=r" must .*, got -?[\d.]+\."):
        plugin.validate()
