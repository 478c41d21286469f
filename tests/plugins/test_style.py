"""What style augmentations share: styles put on, mixed, and kept out of what is not valid."""

from __future__ import annotations

import pytest
import torch

from fedlight.plugins.style import change_style, mean_and_std, mixed, require_alpha, where_valid


def test_statistics_count_valid_pixels_without_gradient() -> None:
    """Of 1, 5 and 99 the first two are valid: mean 3, variance 4, and with eps 5 a deviation of 3."""
    x = torch.tensor([[[[1.0, 5.0, 99.0]]]], requires_grad=True)
    mean, std = mean_and_std(x, torch.tensor([[[True, True, False]]]), eps=5.0)
    assert (mean.flatten().tolist(), std.flatten().tolist()) == ([3.0], [3.0])
    assert not mean.requires_grad
    assert not std.requires_grad


def test_a_style_is_put_on_by_scale_and_shift() -> None:
    """(0, 2) has mean 1 and deviation 1; with mean 5 and deviation 3 it is (2, 8)."""
    x, one = torch.tensor([[[[0.0, 2.0]]]]), torch.ones(1, 1, 1, 1)
    assert change_style(x, one, one, 5 * one, 3 * one).flatten().tolist() == [2.0, 8.0]
    assert change_style(x.half(), one, one, 5 * one, 3 * one).dtype == torch.float16


def test_styles_are_mixed_as_in_mixstyle() -> None:
    """Mu 1, sigma 1 with mu 12, sigma 2 at lambda 0.25: mu 9.25, sigma 1.75. At lambda 1 nothing changes."""
    own = torch.tensor([[[1.0], [1.0]], [[3.0], [4.0]]])
    partner = torch.tensor([[[12.0], [2.0]], [[7.0], [7.0]]])
    assert mixed(own, partner, torch.tensor([0.25, 1.0])).flatten(1).tolist() == [[9.25, 1.75], [3.0, 4.0]]


def test_what_is_not_valid_stays_and_an_image_without_a_valid_pixel_counts_whole() -> None:
    valid = torch.tensor([[[True, False]], [[False, False]]])
    x, styled = torch.zeros(2, 1, 1, 2), torch.ones(2, 1, 1, 2)
    assert where_valid(valid, styled, x).flatten(1).tolist() == [[1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_an_impossible_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be positive, got"):
        require_alpha(alpha)
