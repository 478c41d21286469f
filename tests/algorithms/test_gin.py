"""GIN and IPA: the network for given draws, norms, the field and the views."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import GIN, IPA
from fedlight_algorithms.gin import gin, mix_by, smooth_field
from torch import Tensor

from tests.algorithms.test_image_styles import styled, with_images
from tests.contracts.harness import images_of, second_round

ALL = torch.ones(1, 1, 1, 2, dtype=torch.bool)


def number(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1, 1), value)


def through_two(alpha: float, inside: Tensor = ALL) -> Tensor:
    """3 and -4 by 2 LeakyReLU(1 x + 0) + 1."""
    x = torch.tensor([[[[3.0, -4.0]]]])
    shifts = [torch.zeros(1, 1), torch.ones(1, 1)]
    return gin(x, [number(1.0), number(2.0)], shifts, torch.tensor([alpha]), inside)


def test_it_is_a_network_with_leaky_relus_between_its_layers() -> None:
    """3 stays 3 and -4 becomes -0.04; times 2 plus 1 they are 7 and 0.92. The norm of 3, -4 is 5."""
    scale = 5 / math.hypot(7, 0.92)
    torch.testing.assert_close(through_two(1.0).flatten(), torch.tensor([7 * scale, 0.92 * scale]))


def test_the_network_is_mixed_with_the_image() -> None:
    """Half way: (3 + 7) / 2 = 5 and (-4 + 0.92) / 2 = -1.54. With alpha 0 the image stays."""
    scale = 5 / math.hypot(5, 1.54)
    torch.testing.assert_close(through_two(0.5).flatten(), torch.tensor([5 * scale, -1.54 * scale]))
    torch.testing.assert_close(through_two(0.0).flatten(), torch.tensor([3.0, -4.0]))


def test_norms_count_valid_pixels_only() -> None:
    """Of 3 and 7 alone the norms are 3 and 7: 7 becomes 3."""
    out = through_two(1.0, torch.tensor([[[[True, False]]]]))
    assert out[..., 0].item() == pytest.approx(3, rel=1e-4)


def test_kernels_correlate_and_pad_with_zeros() -> None:
    """1, 2, 3 by the weights 1, 0, -1: -2, -2, 2, of norm sqrt(12); that of 1, 2, 3 is sqrt(14)."""
    kernel = torch.zeros(1, 1, 1, 3, 3)
    kernel[..., 1, :] = torch.tensor([1.0, 0.0, -1.0])
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    out = gin(x, [kernel], [torch.zeros(1, 1)], torch.ones(1), torch.ones_like(x, dtype=torch.bool))
    torch.testing.assert_close(out.flatten(), torch.tensor([-2.0, -2.0, 2.0]) * math.sqrt(14 / 12))


def test_what_is_drawn_has_the_shape_of_the_paper() -> None:
    """Four layers, two channels between them, kernels of 1 or 3, normal weights and shifts."""
    plugin = GIN()
    plugin.generator = torch.Generator().manual_seed(0)
    kernels, shifts = plugin._draw_networks(4000, 3)
    assert [k.shape[1:3] for k in kernels] == [(2, 3), (2, 2), (2, 2), (3, 2)]
    assert {k.shape[-1] for _ in range(20) for k in plugin._draw_networks(1, 3)[0]} == {1, 3}
    for drawn in (*kernels, *shifts):
        assert drawn.std().item() == pytest.approx(1, abs=0.05)
        assert drawn.mean().item() == pytest.approx(0, abs=0.05)


def test_an_image_keeps_its_deviation_and_mean_square() -> None:
    """Of standardised images the norm is kept, so the mean square around the old mean is the old variance."""
    images = images_of("A", 6)["image"]
    mean, variance = images.mean((1, 2, 3), keepdim=True), images.var((1, 2, 3), unbiased=False)
    out = styled(GIN(), with_images(images))
    torch.testing.assert_close((out - mean).square().mean((1, 2, 3)), variance, rtol=1e-3, atol=1e-5)


def test_a_field_is_smooth_and_reaches_from_zero_to_one() -> None:
    """Five control points on 65 pixels: a step of 1 between two of them is spread over 16 pixels."""
    field = smooth_field(torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0)), (65, 65))
    assert torch.equal(field.amin((1, 2, 3)), torch.zeros(8))
    assert torch.equal(field.amax((1, 2, 3)), torch.ones(8))
    for dim in (-1, -2):
        assert field.diff(dim=dim).abs().max() < 0.15


def test_a_blend_takes_either_where_the_field_says_so() -> None:
    """3 and 7: all of the first at 1, all of the second at 0; a quarter of the first is 6."""
    field, first, second = torch.tensor([1.0, 0.0, 0.25]), torch.full((3,), 3.0), torch.full((3,), 7.0)
    assert mix_by(field, first, second).tolist() == [3.0, 7.0, 6.0]


def test_the_second_view_has_the_networks_exchanged() -> None:
    """T_1 + T_2 = g_1 + g_2: on images that both networks are drawn for, the sum has no field in it.

    With networks of one layer, one pixel kernels and grey images, g = s x + t for an image, and so is their sum.
    """
    images = images_of("A", 3)["image"][:, :1]
    plugin = IPA(layers=1, kernel_sizes=[1], consistency=1.0)
    first = styled(plugin, with_images(images))
    both = first + plugin._views[0]
    assert len(plugin._views) == 2
    assert _residual(both, images) < 1e-4
    assert _residual(first, images) > 1e-2


def _residual(found: Tensor, images: Tensor) -> float:
    """How far images are from s x + t, with the best s and t for each: root of the share of variance."""
    y, x = (each.flatten(1) - each.flatten(1).mean(1, keepdim=True) for each in (found, images))
    slope = (x * y).sum(1, keepdim=True) / x.square().sum(1, keepdim=True)
    return float(((y - slope * x).square().sum() / y.square().sum()).sqrt())


@pytest.mark.parametrize("cls", [GIN, IPA])
def test_consistency_is_added_to_the_loss(cls: type[Any]) -> None:
    losses = []
    for weight in (0.0, 1.0, 3.0):
        with second_round(cls(consistency=weight)) as module:
            losses.append(module.training_step(images_of("A"), 0).item())
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-3)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (GIN, {"layers": 0}),
        (GIN, {"width": 0}),
        (GIN, {"kernel_sizes": [1, 4]}),
        (GIN, {"consistency": -1.0}),
        (IPA, {"spacing": 0.0}),
        (IPA, {"layers": 0}),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(cls: type[Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        cls(**arguments).validate()
