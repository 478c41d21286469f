"""FedAvgAlign: the distance, the law of total variance, the ramp and the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvgAlign, MomentAlignment
from fedlight_algorithms.fedavg_align import batch_moments, distance

from fedlight.state import num_bytes
from tests.contracts.harness import Clinic, context_of, images_of


def test_distance_is_the_diagonal_coral_of_means_and_variances() -> None:
    """D = 2, mean differences (1, 3), variance differences (2, 4): 10 / 2 + 20 / (4 * 4) = 6.25."""
    mean, variance = torch.tensor([1.0, 3.0]), torch.tensor([3.0, 6.0])
    assert distance(mean, variance, torch.zeros(2), torch.tensor([1.0, 2.0])).item() == 6.25


def test_moments_of_a_batch_count_valid_places() -> None:
    """Valid are 0 and 4 of image 1 (100 is not) and 2 of image 2: mean 2, variance (4 + 4 + 0) / 3; image 3 is out."""
    x = torch.tensor([[0.0, 4.0, 100.0], [2.0, 100.0, 100.0], [7.0, 8.0, 9.0]]).view(3, 1, 1, 3)
    valid = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool).view(3, 1, 3)
    count, mean, variance = batch_moments(x, valid)
    assert (count.item(), mean.item()) == (3, 2)
    assert variance.item() == pytest.approx(8 / 3)


def test_server_fuses_by_the_law_of_total_variance() -> None:
    """Weights 1 and 3, means 0 and 4, variances 1: mean 3, variance 1 + (9 + 3 * 1) / 4 = 4."""
    plugin = MomentAlignment()
    plugin.begin(context_of(("A", "B"), A=1, B=3), {})
    for site, mean in (("A", 0.0), ("B", 4.0)):
        plugin.add(site, 1, {"bottleneck/mean": torch.tensor([mean]), "bottleneck/spread": torch.tensor([1.0])})
    fused = plugin.finish()
    assert (fused["bottleneck/mean"].item(), fused["bottleneck/spread"].item()) == (3.0, 4.0)


def test_a_round_without_statistics_keeps_the_reference() -> None:
    plugin, previous = MomentAlignment(), {"bottleneck/mean": torch.ones(1), "bottleneck/spread": torch.ones(1)}
    plugin.begin(context_of(), previous)
    assert plugin.finish() == previous


def test_pooled_sites_and_fused_sites_have_the_same_moments() -> None:
    """The reference of sites of equal size is that of all their images in one batch."""
    together = torch.cat([images_of(site)["image"] for site in "ABC"])
    valid = torch.cat([images_of(site)["valid"] for site in "ABC"])
    plugin = MomentAlignment(stages=["input"])
    plugin.begin(context_of(A=1, B=1, C=1), {})
    for site in "ABC":
        _, mean, variance = batch_moments(images_of(site)["image"], images_of(site)["valid"])
        plugin.add(site, 4, {"input/mean": mean, "input/spread": variance})
    _, mean, variance = batch_moments(together, valid)
    torch.testing.assert_close(plugin.finish(), {"input/mean": mean, "input/spread": variance})


def test_first_round_has_no_reference_and_no_penalty() -> None:
    clinic = Clinic.of(FedAvgAlign())
    assert "MomentAlignment/penalty" not in clinic.fit("A", clinic.broadcast()).metrics
    clinic.play(1)
    assert clinic.fit("A", clinic.broadcast()).metrics["MomentAlignment/penalty"] > 0


def test_strength_ramps_over_a_share_of_the_rounds() -> None:
    """4 rounds, ramp 0.5: a quarter of the run is done in round 2, which is half of the ramp; in round 3 all of it."""
    strengths = []
    for number in (1, 2, 3, 4):
        plugin = MomentAlignment(weight=0.2, ramp=0.5)
        clinic = Clinic.of(FedAvgAlign())
        clinic.server.round = number - 1
        plugin.on_round_start("A", clinic.clients["A"].module, clinic.broadcast())
        strengths.append(plugin._strength)
    assert strengths == pytest.approx([0.0, 0.1, 0.2, 0.2])


def test_both_halves_are_one_name_and_share_two_vectors_a_stage() -> None:
    """Six channels at the bottleneck, two float32 moments: 48 bytes."""
    clinic = Clinic.of(FedAvgAlign())
    shared = clinic.fit("A", clinic.broadcast()).shared
    assert {owner: num_bytes(dict(part)) for owner, part in shared.items()} == {"MomentAlignment": 48}


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"ramp": 1.5}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FedAvgAlign(**arguments).validate()
