"""FedGMA: mask and step by hand."""

from __future__ import annotations

import pytest
import torch
from fedlight_algorithms import FedGMA
from fedlight_algorithms.fedgma import mask

from tests.contracts.harness import aggregate, context_of

# four sites of weight 1; agreement is 1, 3/4 (three go up, one stays) and 0
DELTAS = {"A": (4.0, 4.0, 2.0), "B": (4.0, 4.0, 2.0), "C": (4.0, 4.0, -1.0), "D": (8.0, 0.0, -1.0)}
CONTEXT = context_of(tuple(DELTAS), A=1, B=1, C=1, D=1)


def step(plugin: FedGMA) -> list[float]:
    start = torch.tensor([1.0, 1.0, 1.0])
    updates = {site: {"w": start + torch.tensor(delta)} for site, delta in DELTAS.items()}
    moved = aggregate(plugin, CONTEXT, {"w": start}, updates)["w"] - start
    return [float(value) for value in moved]


def test_below_the_threshold_the_step_shrinks_with_the_agreement() -> None:
    """Mean deltas 5, 3, 0.5; agreements 1, 3/4, 0. Threshold 0.8: 5, 2.25, 0."""
    assert step(FedGMA(threshold=0.8)) == [5.0, 2.25, 0.0]


def test_at_the_threshold_the_step_is_full() -> None:
    assert step(FedGMA(threshold=0.75)) == [5.0, 3.0, 0.0]


def test_server_lr_scales_what_is_left() -> None:
    assert step(FedGMA(threshold=0.8, server_lr=2.0)) == [10.0, 4.5, 0.0]


def test_threshold_zero_is_the_mean() -> None:
    assert step(FedGMA(threshold=0.0)) == [5.0, 3.0, 0.5]


def test_unanimous_coordinates_keep_their_step_at_threshold_one() -> None:
    assert mask(torch.tensor([1.0, 0.5]), 1.0).tolist() == [1.0, 0.5]


def test_signs_count_sites_and_not_weights() -> None:
    """A (weight 9) goes up by 1, B (weight 1) down by 1: the mean is 0.8, the agreement 0."""
    updates = {"A": {"w": torch.ones(1)}, "B": {"w": -torch.ones(1)}}
    result = aggregate(FedGMA(), context_of(("A", "B"), A=9, B=1), {"w": torch.zeros(1)}, updates)
    assert result["w"].item() == pytest.approx(0.0)


@pytest.mark.parametrize("arguments", [{"threshold": 1.5}, {"server_lr": 0.0}])
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FedGMA(**arguments).validate()
