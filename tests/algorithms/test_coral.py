"""CORAL: covariance and its fusion by hand, the three forms, gradient and bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import CORAL, FedAvg, FedAvgAlign
from fedlight_algorithms.coral import distance, moments

from fedlight.plugins.alignment import places
from fedlight.plugins.moments import fuse
from fedlight.state import num_bytes
from tests.contracts.harness import Clinic, context_of, images_of, second_round


def test_moments_of_weighted_rows() -> None:
    """Rows (0, 0), (2, 4) count, (9, 9) does not: mean (1, 2), covariance ((1, 2), (2, 4))."""
    rows, weights = torch.tensor([[0.0, 0.0], [2.0, 4.0], [9.0, 9.0]]), torch.tensor([1.0, 1.0, 0.0])
    count, mean, covariance = moments(rows, weights)
    assert (count.item(), mean.tolist(), covariance.tolist()) == (2, [1, 2], [[1, 2], [2, 4]])
    assert moments(rows, weights, diagonal=True)[2].tolist() == [1, 4]


def test_fusion_is_the_law_of_total_covariance() -> None:
    """Weights 1 and 3, means (0, 0) and (4, 8), no spread within: mean (3, 6).

    Away by (-3, -6) and (1, 2): covariance (9 + 3 * 1, 18 + 3 * 2, 36 + 3 * 4) / 4 = (3, 6, 12).
    """
    mean, covariance = fuse(torch.tensor([1.0, 3.0]), torch.tensor([[0.0, 0.0], [4.0, 8.0]]), torch.zeros(2, 2, 2))
    assert mean.tolist() == [3, 6]
    assert covariance.tolist() == [[3, 6], [6, 12]]


def test_fused_batches_are_the_pooled_batch() -> None:
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    parts = [moments(part, torch.ones(len(part))) for part in (rows[:2], rows[2:])]
    counts, means, spreads = (torch.stack(values) for values in zip(*parts, strict=True))
    _, mean, covariance = moments(rows, torch.ones(7))
    torch.testing.assert_close(fuse(counts, means, spreads), (mean, covariance))


def test_distance_whole_shrunk_and_diagonal() -> None:
    """D = 2, means apart by (1, 3): 10 / 2 = 5. Covariances apart by ((2, 1), (1, 4)).

    Whole (4 + 1 + 1 + 16) / 16; off-diagonals halved (4 + 0.25 + 0.25 + 16) / 16; diagonal 20 / 16.
    """
    mean, covariance = torch.tensor([1.0, 3.0]), torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    nothing = torch.zeros(2), torch.zeros(2, 2)
    found = [distance(mean, covariance, *nothing, shrinkage=s).item() for s in (0.0, 0.5, 1.0)]
    assert found == [5 + 22 / 16, 5 + 20.5 / 16, 5 + 20 / 16]


def test_distance_in_the_paper_and_in_domainbed() -> None:
    """Numbers as above: covariances alone, 22 / (4 * 4); with means and d^2, 5 + 22 / 4."""
    mean, covariance = torch.tensor([1.0, 3.0]), torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    nothing = torch.zeros(2), torch.zeros(2, 2)
    assert distance(mean, covariance, *nothing, variant="paper").item() == 22 / 16
    assert distance(mean, covariance, *nothing, variant="domainbed").item() == 5 + 22 / 4


@pytest.mark.parametrize("variant", ["paper", "domainbed"])
def test_a_variant_is_what_a_site_trains_with(variant: Any) -> None:
    """In the middle of a run the penalty is that of the variant, weight 1, ramp over."""
    with second_round(CORAL(weight=1.0, ramp=0.0, variant=variant)) as module:
        plugin = module.plugins[0]
        total = module.training_step(images_of("A"), 0)
        features, reference = module._features["bottleneck"], plugin._reference  # type: ignore[attr-defined]
        module.plugins = []
        penalty = total - module.training_step(images_of("A"), 0)
    _, mean, spread = moments(*places(features, images_of("A")["valid"]))
    expected = distance(mean, spread, reference["bottleneck/mean"], reference["bottleneck/spread"], variant=variant)
    torch.testing.assert_close(penalty, expected, rtol=1e-3, atol=1e-6)


def test_the_diagonal_form_is_fedavg_align() -> None:
    """Other order of operations, same numbers: three rounds of both agree closely."""
    one = Clinic.of(FedAvg(), [CORAL(shrinkage=1.0)]).play(3).server.params
    other = Clinic.of(FedAvgAlign()).play(3).server.params
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)


def test_places_are_valid_places() -> None:
    """Image 1 has places 1, 2 of which the first is valid; image 2 has none at all and does not count."""
    x = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    rows, weights = places(x, torch.tensor([[[True, False]], [[False, False]]]))
    assert (rows.flatten().tolist(), weights.tolist()) == ([1, 2, 3, 4], [1, 0, 0, 0])


@pytest.mark.parametrize(("shrinkage", "size"), [(0.0, 4 * (6 + 36)), (1.0, 4 * 12)])
def test_bytes_are_those_of_the_card(shrinkage: float, size: int) -> None:
    """Six channels: 4 (d + d^2) bytes whole, 8 d for variances."""
    clinic = Clinic.of(FedAvg(), [CORAL(shrinkage=shrinkage)])
    assert num_bytes(dict(clinic.fit("A", clinic.broadcast()).shared["CORAL"])) == size


def test_a_round_without_statistics_keeps_the_reference() -> None:
    plugin, previous = CORAL(), {"bottleneck/mean": torch.ones(1), "bottleneck/spread": torch.ones(1, 1)}
    plugin.begin(context_of(), previous)
    assert plugin.finish() == previous


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"ramp": 1.5}, {"shrinkage": 2.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        CORAL(**arguments).validate()
