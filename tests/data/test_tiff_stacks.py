"""Claims about TIFF files of several pages: which are stacks, what their voxels measure, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, TiffImagePlugin

from fedlight.data.check import check
from fedlight.data.federated import DataError
from fedlight.data.folder import FolderSites
from fedlight.data.tiff_stacks import is_stack
from fedlight.data.volume_files import open_stack
from tests.data.test_volume_prediction import predict
from tests.data.volume_sites import ball, grey

PAGES = (grey(0, (16, 20, 12)) + 2000).astype(np.uint16)
"""16 slices of 20 x 12 pixels."""


def save(path: Path, pages: npt.NDArray[Any], described: str = "", per_mm: float = 0.0) -> Path:
    """Writes pages, and what ImageJ would say of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if described:
        tags[270], tags[282], tags[283] = f"ImageJ=1.54\n{described}\n", per_mm, per_mm
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others, tiffinfo=tags)
    return path


def stacks(root: Path, **settings: Any) -> FolderSites:
    given: dict[str, Any] = {"image_size": 16, "channels": 1} | settings
    return FolderSites(str(root), **given)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A root with the site "a": three stacks with stacks as masks."""
    for index in range(3):
        save(tmp_path / f"a/images/c{index}.tif", (grey(index, (16, 20, 12)) + 2000).astype(np.uint16))
        save(tmp_path / f"a/masks/c{index}.tiff", ball((16, 20, 12)) * 255)
    return tmp_path


def test_pages_are_slices_and_an_unknown_spacing_is_said(site: Path) -> None:
    data = stacks(site)
    assert data.describe() == [{"site": "a", "train": 1, "val": 1, "test": 1, "sizes": {"16x20x12": 3}}]
    batch = next(iter(data.loader("a", "val")))
    assert np.array_equal(batch["mask"].numpy(), ball((16, 20, 12)))
    assert data.distance_unit == "px"
    (finding,) = check(data).findings
    assert finding.severity == "warning"
    assert finding.text.startswith("site a: stack of pages that does not say how large its voxels are: c0, c1, c2.")


def test_spacing_of_imagej_counts(tmp_path: Path) -> None:
    """Four pixels a millimetre are 0.25 mm each, and slices lie 1500 micrometres apart; in another unit the same."""
    path = save(tmp_path / "a.tif", PAGES, "images=16\nslices=16\nunit=mm\nspacing=1.5", 4)
    other = save(tmp_path / "b.tif", PAGES, "images=16\nslices=16\nunit=\\u00B5m\nspacing=1500", 0.004)
    for stack in (open_stack(path, "axial"), open_stack(other, "axial")):
        assert stack.spacing == pytest.approx((1.5, 0.25, 0.25))
        assert stack.in_mm
        assert stack.remarks == ()
    assert open_stack(path, "coronal").spacing == pytest.approx((0.25, 1.5, 0.25))


def test_one_page_is_an_image_and_thumbnails_are_no_slices(tmp_path: Path) -> None:
    assert not is_stack(save(tmp_path / "one.tif", PAGES[:1]))
    assert is_stack(save(tmp_path / "two.tif", PAGES[:2]))
    first, small = Image.fromarray(PAGES[0]), Image.fromarray(PAGES[1]).resize((6, 10))
    first.save(tmp_path / "thumb.tif", save_all=True, append_images=[small])
    assert not is_stack(tmp_path / "thumb.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0no")
    assert not is_stack(tmp_path / "broken.tif")


def test_colour_channels_and_broken_pages_are_one_sentence(site: Path) -> None:
    save(site / "a/images/c0.tif", np.zeros((4, 20, 12, 3), np.uint8))
    save(site / "a/images/c1.tif", PAGES, "images=16\nchannels=2\nslices=8", 1)
    data = (site / "a/images/c2.tif").read_bytes()
    (site / "a/images/c2.tif").write_bytes(data[:-1200])
    with pytest.raises(DataError) as caught:
        stacks(site).prepare()
    said = " ".join(caught.value.args)
    assert "volume in colour or of complex numbers: images/c0.tif" in said
    assert "file that is not one volume: c1 (2 channels)" in said
    assert "c2" in said


def test_a_mask_of_a_stack_is_a_stack(tmp_path: Path) -> None:
    said = "images=24\nslices=24\nunit=mm\nspacing=1.5"
    save(tmp_path / "stack.tif", (grey(0, (24, 24, 24)) + 2000).astype(np.uint16), said, 4)
    predict(tmp_path / "stack.tif", tmp_path / "out", probabilities=True)
    found = open_stack(tmp_path / "out/masks/stack.tif", "axial")
    assert np.array_equal(found.stored, ball((24, 24, 24)))
    assert found.spacing == pytest.approx((1.5, 0.25, 0.25))
    assert found.in_mm
    assert np.load(tmp_path / "out/probabilities/stack.npy").shape == (24, 24, 24, 2)
