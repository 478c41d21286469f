from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlight.data.preparation import (
    Normalise,
    histograms,
    letterbox,
    letterbox_labels,
    moments,
    normaliser,
    to_images,
)
from fedlight.data.source import Pixels
from fedlight.geometry import content_size, restore


def prepared(image: Pixels, valid: np.ndarray, normalise: Normalise) -> torch.Tensor:
    return to_images([image], [normaliser(normalise, histograms(image, valid))])


def test_without_normalisation_the_range_of_the_type_becomes_one() -> None:
    """8 bits count by 255, 16 bits by 65535, and one batch may hold both."""
    eight = np.array([[[0], [51], [255]]], dtype=np.uint8)
    sixteen = np.array([[[0], [13107], [65535]]], dtype=np.uint16)
    images = to_images([eight, sixteen], [None, None])
    torch.testing.assert_close(images, torch.tensor([0, 0.2, 1]).expand(2, 1, 1, 3))


def test_z_score_is_over_valid_pixels() -> None:
    """The valid levels 10 and 30 have mean 20 and deviation 10, so they become -1 and 1, and 220 becomes 20."""
    image = np.array([[[10], [30], [220]]], dtype=np.uint8)
    images = prepared(image, np.array([[True, True, False]]), "z-score")
    torch.testing.assert_close(images.flatten(), torch.tensor([-1.0, 1.0, 20.0]))


def test_percentiles_are_per_channel_and_clipped() -> None:
    """Of the levels 0..199, one pixel each, at least 1 % are up to level 1 and at least 99 % up to level 197."""
    levels = np.arange(200, dtype=np.uint8)[None, :, None]
    images = prepared(levels, np.ones((1, 200), dtype=np.bool_), "percentile").flatten()
    torch.testing.assert_close(images, ((torch.arange(200) - 1) / 196).clamp(0, 1))


def test_a_constant_channel_stays_finite() -> None:
    image = np.full((4, 4, 1), 9, dtype=np.uint8)
    for normalise in ("z-score", "percentile"):
        assert prepared(image, np.ones((4, 4), dtype=np.bool_), normalise).abs().max() < 1e-6


def test_moments_are_those_of_numpy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    valid = np.random.default_rng(1).random((8, 8)) < 0.5
    mean, deviation = moments(histograms(image, valid))
    np.testing.assert_allclose(mean, image[valid].mean(0) / 255)
    np.testing.assert_allclose(deviation, image[valid].std(0) / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_letterbox_scales_by_one_factor_and_pads_with_zero(dtype: type[np.unsignedinteger]) -> None:
    """A 20 x 10 image fits a 8 x 8 grid as 8 x 4."""
    image = np.full((20, 10, 3), 200, dtype=dtype)
    boxed = letterbox(image, (8, 8))
    assert boxed.dtype == dtype
    assert (boxed[:, :4] == 200).all()
    assert (boxed[:, 4:] == 0).all()
    assert content_size((20, 10), (8, 8)) == (8, 4)


@pytest.mark.parametrize("size", [(20, 10), (13, 31), (5, 5), (64, 48)])
def test_what_letterbox_does_restore_undoes(size: tuple[int, int]) -> None:
    """A smooth image survives; masks and images land on the same place."""
    y, x = np.mgrid[: size[0], : size[1]]
    ramp = np.stack([255 * y / size[0], 255 * x / size[1], 0 * x], -1).astype(np.uint8)
    boxed = torch.from_numpy(letterbox(ramp, (32, 32))).permute(2, 0, 1)[None].float()
    back = restore(boxed, size, "boxed")[0].permute(1, 2, 0).numpy()
    assert np.abs(back - ramp).mean() < 8


def test_labels_follow_the_image() -> None:
    """Halving a mask takes a pixel of each block of four, and padding is 0."""
    mask = np.array([[1, 1, 2, 2], [1, 1, 2, 2]], dtype=np.uint8)
    assert letterbox_labels(mask, (2, 2)).tolist() == [[1, 2], [0, 0]]
    valid = np.ones((2, 4), dtype=np.bool_)
    assert letterbox_labels(valid, (2, 2)).tolist() == [[True, True], [False, False]]


def test_a_mask_on_its_own_grid_is_untouched() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (7, 9), dtype=np.uint8)
    np.testing.assert_array_equal(letterbox_labels(mask, (7, 9)), mask)
