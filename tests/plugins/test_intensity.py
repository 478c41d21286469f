"""Ranges and scales of single images."""

from __future__ import annotations

import torch

from fedlight.plugins.intensity import inside_of, standardised, valid_range

IMAGES = torch.tensor([[[[1.0, 3.0, 99.0]], [[5.0, 7.0, 99.0]]]])
VALID = torch.tensor([[[True, True, False]]])


def test_ranges_are_of_valid_pixels_and_all_channels() -> None:
    """Of 1, 3, 5 and 7: from 1, 6 wide. Without a valid pixel the whole image counts: from 1, 98 wide."""
    for valid, width in ((VALID, 6), (torch.zeros_like(VALID), 98)):
        found = valid_range(IMAGES, inside_of(IMAGES, valid))
        assert [each.flatten().tolist() for each in found] == [[1], [width]]


def test_images_are_standardised_as_a_whole() -> None:
    """1, 3, 5 and 7 have mean 4 and variance (9 + 1 + 1 + 9) / 4 = 5; the pixel that does not count becomes 0."""
    plain, mean, std = standardised(IMAGES, VALID)
    assert mean.flatten().tolist() == [4]
    torch.testing.assert_close(std.flatten(), torch.tensor([5**0.5]))
    torch.testing.assert_close(plain.flatten() * 5**0.5, torch.tensor([-3.0, -1, 0, 1, 3, 0]))


def test_an_image_of_one_value_becomes_zero() -> None:
    plain, mean, std = standardised(torch.full((1, 3, 2, 2), 7.0), torch.ones(1, 2, 2, dtype=torch.bool))
    assert not plain.any()
    assert (mean.item(), std.item()) == (7, 0)
