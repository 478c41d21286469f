from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlight.data.images import read_image, read_values
from fedlight.data.source import CaseError


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "tiff", "gif"])
def test_lossless_formats_keep_grey_levels(tmp_path: Path, suffix: str) -> None:
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(read_values(tmp_path / f"x.{suffix}"), levels)
    np.testing.assert_array_equal(read_image(tmp_path / f"x.{suffix}", 1)[..., 0], levels)


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    levels = np.array([[0, 256], [4095, 65535]], dtype=np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(levels).save(tmp_path / f"x.{suffix}")
        image = read_image(tmp_path / f"x.{suffix}", 1)
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image[..., 0], levels)


def test_exif_orientation_turns_the_image(tmp_path: Path) -> None:
    """Orientation 6 means that the stored rows must be turned by 90 degrees clockwise: (2, 3) becomes (3, 2)."""
    stored = np.zeros((2, 3, 3), dtype=np.uint8)
    stored[0, 0] = 255  # upper left, so upper right after a clockwise turn
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    image = read_image(tmp_path / "x.png", 3)
    assert image.shape == (3, 2, 3)
    assert image[0, 1].tolist() == [255, 255, 255]
    assert image.astype(int).sum() == 3 * 255


def test_transparency_is_dropped(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 7, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 3), pixels[..., :3])


def test_palette_images_become_colours_and_palette_masks_stay_indices(tmp_path: Path) -> None:
    indices = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "L")
    indices.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    indices.save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", 3)[0, 1].tolist() == [200, 10, 10]
    assert read_values(tmp_path / "x.png").tolist() == [[0, 1], [2, 1]]


def test_palette_masks_of_greys_are_grey_levels(tmp_path: Path) -> None:
    indices = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "L")
    indices.putpalette([0, 0, 0, 255, 255, 255])
    indices.save(tmp_path / "x.png")
    assert read_values(tmp_path / "x.png").tolist() == [[0, 255]]


def test_equal_colours_count_as_grey(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 1), grey[..., :1])
    np.testing.assert_array_equal(read_values(tmp_path / "x.png"), grey[..., 0])


@pytest.mark.parametrize(("shape", "channels"), [((4, 4), 3), ((4, 4, 3), 1)])
def test_wrong_channels_are_refused(tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
    Image.fromarray(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)).save(tmp_path / "x.png")
    with pytest.raises(CaseError) as caught:
        read_image(tmp_path / "x.png", channels)
    assert caught.value.problems[0][0] == "channels"


def test_a_mask_in_colour_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "x.png")
    with pytest.raises(CaseError) as caught:
        read_values(tmp_path / "x.png")
    assert caught.value.problems == (("mask colour", "x"),)


def test_fractional_values_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, 1.0]], dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(CaseError, match="fractional"):
        read_image(tmp_path / "x.tif", 1)


def test_a_cut_off_file_is_unreadable(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CaseError) as caught:
        read_image(tmp_path / "x.png", 3)
    assert caught.value.problems[0][0] == "unreadable"
