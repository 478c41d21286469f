"""MixStyle: the formula, its gradient and its draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import MixStyle
from fedlight_algorithms.mixstyle import mix

from fedlight.statistics import channel_moments
from tests.contracts.harness import images_of


def test_statistics_are_mixed_as_in_the_paper() -> None:
    """Image 1 is (0, 2): mean 1, std 1. Image 2 is (10, 14): mean 12, std 2.

    With lambda 0.25, image 1 gets std 0.25 * 1 + 0.75 * 2 = 1.75 and mean 0.25 * 1 + 0.75 * 12 = 9.25, so it becomes
    (7.5, 11). With lambda 1, image 2 stays as it is.
    """
    x = torch.tensor([[0.0, 2.0], [10.0, 14.0]]).view(2, 1, 1, 2)
    mean, std = torch.tensor([1.0, 12.0]).view(2, 1, 1, 1), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    mixed = mix(x, mean, std, torch.tensor([0.25, 1.0]), torch.tensor([1, 0]))
    assert mixed.flatten(1).tolist() == [[7.5, 11.0], [10.0, 14.0]]


def test_gradient_takes_statistics_as_constants() -> None:
    """D mixed / d x is sigma_mix / sigma = 1.75 for image 1 of the example above, and 1 for image 2."""
    x = torch.tensor([[0.0, 2.0], [10.0, 14.0]]).view(2, 1, 1, 2).requires_grad_()
    mean, std = torch.tensor([1.0, 12.0]).view(2, 1, 1, 1), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    torch.autograd.backward(mix(x, mean, std, torch.tensor([0.25, 1.0]), torch.tensor([1, 0])).sum())
    assert x.grad is not None
    assert x.grad.flatten(1).tolist() == [[1.75, 1.75], [1.0, 1.0]]


def test_mixstyle_draws_what_it_always_drew() -> None:
    """A coin, an order and shares, in this order, so that equal seeds keep their results; p = 1 never ends with x."""
    plugin = MixStyle(p=1, stages=["input"])
    plugin.generator, draw = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    batch = images_of("A")
    torch.rand((), generator=draw)
    partner = torch.randperm(4, generator=draw)
    share = torch._sample_dirichlet(torch.full((4, 2), 0.1, dtype=torch.float64), draw)[:, 0].float()
    mean, variance = channel_moments(batch["image"], batch["valid"])
    expected = mix(batch["image"], mean, (variance + 1e-6).sqrt(), share, partner)
    assert torch.equal(plugin.restyle("input", batch["image"], batch), expected)


@pytest.mark.parametrize("arguments", [{"p": 1.5}, {"alpha": 0.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        MixStyle(**arguments).validate()
