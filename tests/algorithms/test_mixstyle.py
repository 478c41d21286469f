"""MixStyle: the formula, its gradient and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import MixStyle
from fedlight_algorithms.mixstyle import mix

from tests.contracts.harness import images_of, pick


def seeded_plugin(**arguments: Any) -> MixStyle:
    plugin = MixStyle(**arguments)
    plugin.generator = torch.Generator().manual_seed(0)
    return plugin


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


def test_features_reach_the_gradient_through_the_plugin() -> None:
    x = images_of("A")["image"].requires_grad_()
    torch.autograd.backward(seeded_plugin(p=1).restyle("encoder1", x, images_of("A")).square().sum())
    assert x.grad is not None
    assert bool((x.grad != 0).any())


def test_one_image_has_no_partner() -> None:
    batch = pick(images_of("A"), [0])
    assert seeded_plugin(p=1).restyle("encoder1", batch["image"], batch) is batch["image"]


def test_probability_is_per_batch() -> None:
    """Of 400 batches with p = 0.5, 200 are mixed on average; five standard deviations are 50."""
    plugin, batch = seeded_plugin(p=0.5), images_of("A", size=4)
    mixed = sum(plugin.restyle("encoder1", batch["image"], batch) is not batch["image"] for _ in range(400))
    assert 150 < mixed < 250


def test_only_valid_pixels_set_the_style() -> None:
    """Values in the corner that is not valid change only themselves."""
    batch = images_of("A")
    valid = batch["valid"][:, None].expand_as(batch["image"])
    spoiled = torch.where(valid, batch["image"], 99.0)
    clean, other = (seeded_plugin(p=1).restyle("encoder1", x, batch) for x in (batch["image"], spoiled))
    torch.testing.assert_close(clean[valid], other[valid])


def test_half_precision_stays_half_precision() -> None:
    batch = images_of("A")
    styled = seeded_plugin(p=1).restyle("encoder1", batch["image"].bfloat16(), batch)
    assert styled.dtype == torch.bfloat16
    assert bool(styled.isfinite().all())


@pytest.mark.parametrize("arguments", [{"p": 1.5}, {"p": -0.1}, {"alpha": 0.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        MixStyle(**arguments).validate()
