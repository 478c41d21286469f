"""What all alignments share: a strength that grows, a reference of the round before, layers that they leave alone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from fedlight.plugins import Alignment
from fedlight.plugins.alignment import ramp
from fedlight.plugins.discovery import discover, registered
from tests.contracts.harness import context_of, images_of, second_round

discover()
RAMPED = [
    info.cls
    for info in registered()
    if issubclass(info.cls, Alignment) and "ramp" in inspect.signature(info.cls).parameters
]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.2, [0, 0.5, 1, 1, 1, 1]), (0.0, [0, 1, 1, 1, 1, 1]), (1.0, [0, 0.1, 0.2, 0.3, 0.4, 0.5])],
)
def test_strength_grows_over_a_share_of_the_rounds_and_stays(share: float, expected: list[float]) -> None:
    """Of ten rounds, 0, 1, 2, ... are done in rounds 1, 2, 3, ..."""
    found = [ramp(context_of(round=number, rounds=10), share) for number in range(1, 7)]
    assert found == pytest.approx(expected)


def penalty_of(plugin: Any, batch: Any = None) -> Tensor:
    """The penalty of a step in round 2 of 4, for which all sites have shared something before."""
    seen: list[Tensor] = []
    inner = plugin.penalty

    def noted(step: Any) -> Tensor:
        seen.append(inner(step))
        return seen[-1]

    with second_round(plugin) as module:
        plugin.penalty = noted
        module.training_step(batch or images_of("A"), 0)
    return seen[-1]


@pytest.mark.parametrize("cls", RAMPED)
def test_every_alignment_is_half_as_strong_half_way_up(cls: Any) -> None:
    """A quarter of the rounds is done: a ramp over half of them is at 1/2, one over a quarter at 1."""
    half, whole = (penalty_of(cls(ramp=share)) for share in (0.5, 0.25))
    assert half.item() > 0
    torch.testing.assert_close(half * 2, whole)


@pytest.mark.parametrize("cls", RAMPED)
def test_every_alignment_is_as_strong_as_its_weight(cls: Any) -> None:
    weight = cls().weight
    torch.testing.assert_close(penalty_of(cls(ramp=0.0, weight=3 * weight)), 3 * penalty_of(cls(ramp=0.0)))


@pytest.mark.parametrize("cls", RAMPED)
def test_an_alignment_pulls_at_the_features_and_not_at_the_reference(cls: Any) -> None:
    """Layers behind the stage get no gradient, layers in front of it do; the reference is a constant."""
    plugin: Any = cls(ramp=0.0)
    seen: list[Tensor] = []
    inner = plugin.penalty
    with second_round(plugin) as module:
        plugin.penalty = lambda step: seen.append(inner(step))  # the loss itself stays out of it
        module.training_step(images_of("A"), 0)
        torch.autograd.backward(seen[-1])
        reached = {name for name, p in module.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
        assert not any(value.requires_grad for value in plugin._reference.values())
    assert {name.split(".")[1] for name in reached} == {"encoder1", "encoder2", "bottleneck"}


def test_every_alignment_with_a_ramp_is_here() -> None:
    assert {cls.__name__ for cls in RAMPED} >= {"CORAL", "FedADG", "MMD", "MomentAlignment", "Prototypes"}
