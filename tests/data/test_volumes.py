"""Claims about volumes: how they are cut, what of them a network sees, and what is said of those that are no use."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from fedlight.data.check import check
from fedlight.data.contact_sheet import contact_sheet
from fedlight.data.federated import DataError
from fedlight.data.folder import FolderSites
from fedlight.data.stack import Axis
from fedlight.data.volume_files import open_stack
from tests.data.volume_sites import AFFINE, ball, grey, save_nifti, volume_site


def volumes(root: Path, **settings: Any) -> FolderSites:
    given: dict[str, Any] = {"image_size": 16, "channels": 1, "batch_size": 4} | settings
    return FolderSites(str(root), **given)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A root with the site "a": six volumes of 16 axial slices of 20 x 12."""
    return volume_site(tmp_path, "a")


# --- cutting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "shape", "place"),
    [("axial", (4, 3, 2), (0, 2, 0)), ("coronal", (3, 4, 2), (2, 0, 0)), ("sagittal", (2, 4, 3), (0, 0, 2))],
)
def test_slices_look_as_on_a_screen(tmp_path: Path, axis: Axis, shape: tuple[int, int, int], place: object) -> None:
    """The head is slice 0 or on top, the back below or on the right, and the patient's right on the left.

    The array has 2 x 3 x 4 voxels, from left to right, from back to front and from feet to head.
    """
    array = np.zeros((2, 3, 4), np.int16)
    array[1, 0, 3] = 7  # right, back, head
    stack = open_stack(save_nifti(tmp_path / "v.nii.gz", array), axis)
    found = np.stack([stack.values(i) for i in range(len(stack))])
    assert found.shape == shape
    assert tuple(np.argwhere(found == 7)[0]) == place
    z, y, x = {"axial": (3, 0.8, 0.8), "coronal": (0.8, 3, 0.8), "sagittal": (0.8, 3, 0.8)}[axis]
    assert stack.spacing == pytest.approx((z, y, x))


def test_one_body_stored_in_two_ways_is_one_stack(tmp_path: Path) -> None:
    """Flipped and transposed, with an affine that says so: slices and places are the same."""
    array = grey(0)
    turned = np.array([[0, 0, -0.8, 0.8 * 11 - 8], [0, 0.8, 0, 4], [3.0, 0, 0, -20], [0, 0, 0, 1]])
    plain = open_stack(save_nifti(tmp_path / "a.nii", array), "axial")
    other = open_stack(save_nifti(tmp_path / "b.nii", array[::-1].transpose(2, 1, 0).copy(), turned), "axial")
    assert all(np.array_equal(plain.values(i), other.values(i)) for i in range(16))
    assert plain.turn is not None
    assert other.turn is not None
    np.testing.assert_allclose(plain.turn.seen, other.turn.seen, atol=1e-5)


def test_an_uncompressed_file_is_not_read_as_a_whole(tmp_path: Path) -> None:
    stack = open_stack(save_nifti(tmp_path / "v.nii", grey(0)), "coronal")
    base: Any = stack.stored
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_slope_and_intercept_of_the_header_count(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE)
    image.header.set_slope_inter(2, -5)
    nibabel.save(image, tmp_path / "v.nii")
    stored = np.asarray(nibabel.load(tmp_path / "v.nii").dataobj)
    stack = open_stack(tmp_path / "v.nii", "axial")
    assert {float(v) for i in range(4) for v in stack.values(i).ravel()} == {float(v) for v in stored.ravel()}


def test_numpy_volumes_are_slices_rows_columns(tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    np.save(tmp_path / "v.npy", array)
    np.savez(tmp_path / "v.npz", image=array, spacing=[3.0, 2.0, 1.0])
    plain, spaced = open_stack(tmp_path / "v.npy", "axial"), open_stack(tmp_path / "v.npz", "coronal")
    assert np.array_equal(plain.values(1), array[1])
    assert (plain.spacing, plain.in_mm) == ((1, 1, 1), False)
    assert np.array_equal(spaced.values(2), array[:, 2])
    assert (spaced.spacing, spaced.in_mm) == ((2, 3, 1), True)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_case_is_a_volume_and_a_sample_is_a_slice(site: Path) -> None:
    """Of six volumes one validates and one tests, so 4 * 16 slices train; each is seen once in an epoch."""
    data = volumes(site)
    assert data.describe() == [{"site": "a", "train": 4, "val": 1, "test": 1, "sizes": {"16x20x12": 6}}]
    assert data.num_samples("a") == 64
    batches = list(data.train_loader("a", seed=0))
    assert [tuple(batch["image"].shape) for batch in batches] == [(4, 1, 16, 16)] * 16
    names = [name for batch in batches for name in batch["case"]]
    assert sorted(names.count(name) for name in set(names)) == [16] * 4
    assert data.distance_unit == "mm"
    rows = check(data).sites
    assert (rows[0].cases, rows[0].size) == (6, "16x20x12")
    contact_sheet(data, site / "sheet.png")


def test_under_example_level_privacy_a_patient_is_a_volume_and_gives_one_slice(site: Path) -> None:
    """Every patient that was drawn has one sample in the batch; a draw of nobody has the shape of others."""
    data = volumes(site, context=1)
    data.prepare()
    assert data.patients("a") == 4
    one, nobody, all_ = data.patient_loader("a", [[2], [], [0, 1, 2, 3]], seed=0)
    assert tuple(nobody["image"].shape) == tuple(one["image"].shape) == (1, 3, 16, 16)
    assert not nobody["valid"].any()
    assert not nobody["image"].any()
    assert len(set(all_["case"])) == 4
    assert one["case"] == all_["case"][2:3]


def test_an_evaluation_batch_is_one_volume_on_its_own_grid(site: Path) -> None:
    batch = next(iter(volumes(site).loader("a", "val")))
    assert batch["image"].shape == (16, 1, 16, 16)
    assert batch["mask"].shape == batch["valid"].shape == (16, 20, 12)
    assert batch["mask"].sum() == ball().sum()
    assert len(set(batch["case"])) == 1
    assert batch["spacing"][0].tolist() == pytest.approx([3, 0.8, 0.8])


def test_the_window_is_zero_to_one_and_cuts_off(site: Path) -> None:
    """Background is at -1000 to -600, the ball at 600 to 1000: of a window from -600 to 600 only 0 and 1 are left."""
    batch = next(iter(volumes(site, intensity_window=(-600, 600), image_size=(20, 12)).loader("a", "val")))
    assert torch.equal(batch["image"][:, 0], batch["mask"].float())


def test_without_a_window_the_volumes_own_range_counts(site: Path) -> None:
    batch = next(iter(volumes(site, image_size=(20, 12)).loader("a", "val")))
    volume = grey(97 * 1000 + int(batch["case"][0][1]))
    expected = (volume - volume.min()) / (float(volume.max()) - float(volume.min()))
    found = batch["image"][:, 0].numpy()[::-1, ::-1, ::-1].transpose(2, 1, 0)  # axial slices back to RAS
    np.testing.assert_allclose(found, expected, atol=1 / 65535)


def test_neighbours_are_channels_and_ends_are_repeated(site: Path) -> None:
    plain, data = volumes(site), volumes(site, context=1, normalise="z-score")
    assert data.format.channels == 3
    alone = next(iter(volumes(site, normalise="z-score").loader("a", "val")))["image"][:, 0]
    image = next(iter(data.loader("a", "val")))["image"]
    assert torch.equal(image[:, 1], alone)
    assert torch.equal(image[1:, 0], alone[:-1])
    assert torch.equal(image[0, 0], alone[0])
    assert torch.equal(image[-1, 2], alone[-1])
    assert next(iter(data.train_loader("a", seed=0)))["image"].shape == (4, 3, 16, 16)
    assert plain.format.channels == 1


def test_slices_are_resampled_to_a_spacing_and_come_back(site: Path) -> None:
    """20 x 12 pixels of 0.8 mm are 16 x 9.6 mm, so 8 x 5 pixels of 2 mm."""
    data = volumes(site, image_size=None, patch_size=4, spacing=2)
    batch = next(iter(data.loader("a", "val")))
    assert batch["image"].shape == (16, 1, 8, 5)
    assert batch["mask"].shape == (16, 20, 12)
    assert data.format.placing == "stretched"
    train = next(iter(data.train_loader("a", seed=0)))
    assert train["image"].shape[-2:] == train["mask"].shape[-2:] == (4, 4)


def test_slices_with_foreground_can_be_preferred(site: Path) -> None:
    """The ball is in the middle half of the 16 slices; a share of 1 shows nothing else."""
    always = volumes(site, foreground_slices=1.0)
    assert all(batch["mask"].flatten(1).any(1).all() for batch in always.train_loader("a", seed=0))
    shares = [batch["mask"].flatten(1).any(1).float().mean() for batch in volumes(site).train_loader("a", seed=0)]
    assert float(torch.stack(shares).mean()) == pytest.approx(ball().any((0, 1)).mean())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_full_cache_and_workers_change_nothing(tmp_path: Path, suffix: str) -> None:
    root = volume_site(tmp_path, "a", suffix=suffix)
    kept, read = volumes(root, context=1), volumes(root, context=1, cache_gb=0.0, num_workers=2)
    for data in (kept, read):
        data.prepare()
    for one, other in zip(
        kept.train_loader("a", seed=0, steps=3),
        pickle.loads(pickle.dumps(read)).train_loader("a", seed=0, steps=3),
        strict=True,
    ):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])
    assert any("0 of 6 cases fit" in finding.text for finding in read.survey().findings)


def test_only_voxels_inside_the_field_of_view_count(site: Path) -> None:
    inside = np.zeros((12, 20, 16), np.uint8)
    inside[6:] = 1  # the patient's right half, which is on the left
    for path in (site / "a/images").iterdir():
        save_nifti(site / "a/fov" / path.name, inside)
    valid = next(iter(volumes(site).loader("a", "val")))["valid"]
    assert valid[..., :6].all()
    assert not valid[..., 6:].any()


# --- what cannot be used ---------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:600])


def half(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:4000]))


def coloured(path: Path) -> None:
    save_nifti(path, np.zeros((12, 20, 16), [("R", "u1"), ("G", "u1"), ("B", "u1")]))


def no_place(path: Path) -> None:
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[280:328] = bytes(48)  # the rows of the sform
    path.write_bytes(gzip.compress(bytes(data)))


MOVED = AFFINE + np.array([[0, 0, 0, 5.0], [0] * 4, [0] * 4, [0] * 4])
BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "truncated": (lambda image, mask: truncated(image), "cannot be read as an image: images/c1.nii.gz ("),
    "half of the voxels": (lambda image, mask: half(image), "cannot be read as an image: images/c1.nii.gz ("),
    "no NIfTI": (lambda image, mask: mask.write_bytes(b"no"), "cannot be read as an image: masks/c1.nii.gz ("),
    "another shape": (
        lambda image, mask: save_nifti(mask, ball((12, 20, 15))),
        "mask and image differ in size: c1 (15x20x12 instead of 16x20x12)",
    ),
    "elsewhere": (
        lambda image, mask: save_nifti(mask, ball(), MOVED),
        "mask or field of view that lies elsewhere than its volume: c1 (mask, 5 mm)",
    ),
    "4-D": (
        lambda image, mask: save_nifti(image, np.zeros((4, 4, 4, 3), np.uint8)),
        "file that is not one volume: c1 (4x4x4x3)",
    ),
    "colour": (
        lambda image, mask: coloured(image),
        "volume in colour or of complex numbers: images/c1.nii.gz",
    ),
    "no place": (
        lambda image, mask: no_place(image),
        "header that does not say where voxels lie: images/c1.nii.gz",
    ),
    "no numbers": (
        lambda image, mask: save_nifti(image, np.full((12, 20, 16), np.nan, np.float32)),
        "volume in which no voxel is a number: c1",
    ),
    "values of no class": (
        lambda image, mask: save_nifti(mask, ball() * 7),
        "mask with values that belong to no class: c1 (7)",
    ),
    "fractions in a mask": (
        lambda image, mask: save_nifti(mask, ball() * np.float32(0.5)),
        "mask with values that belong to no class: c1 (negative, fractional or not a number)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_volume_that_cannot_be_used_is_one_sentence(site: Path, name: str) -> None:
    damage, sentence = BROKEN[name]
    damage(site / "a/images/c1.nii.gz", site / "a/masks/c1.nii.gz")
    with pytest.raises(DataError) as caught:
        volumes(site).prepare()
    assert [text[: len(sentence) + 8] for text in caught.value.args] == [f"site a: {sentence}"], caught.value.args


def test_a_mask_in_another_format_is_refused(site: Path) -> None:
    (site / "a/masks/c1.nii.gz").unlink()
    np.save(site / "a/masks/c1.npy", ball())
    with pytest.raises(DataError, match=r"in different formats: c1 \(mask\)\. Save all of them as NIfTI"):
        volumes(site).prepare()


def test_colour_channels_and_an_unknown_spacing_are_refused(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "a" / name).mkdir(parents=True)
        for index in range(3):
            np.save(tmp_path / "a" / name / f"c{index}.npy", grey(index) if name == "images" else ball())
    with pytest.raises(DataError, match=r"wrong number of channels: c0 \(1 instead of 3\)"):
        volumes(tmp_path, channels=3).prepare()
    with pytest.raises(DataError, match="no spacing to resample from: c0, c1, c2"):
        volumes(tmp_path, image_size=None, patch_size=4, spacing=1.0).prepare()
    assert volumes(tmp_path).distance_unit == "px"


def test_voxels_that_are_no_numbers_do_not_count(site: Path) -> None:
    """A quarter of the volume is NaN: it is said, left out of everything, and changes nothing of the rest."""
    volume = grey(1).astype(np.float32)
    volume[:, :5] = np.nan
    for path in (site / "a/images").iterdir():
        save_nifti(path, volume + int(path.name[1]))
    data = volumes(site)
    batch = next(iter(data.loader("a", "val")))
    assert batch["image"].isfinite().all()
    assert (~batch["valid"]).float().mean() == 0.25
    assert next(f.text for f in data.survey().findings if "no numbers" in f.text).startswith(
        "site a: volume with voxels that are no numbers: c0 (25.0%), c1 (25.0%)"
    )


def test_empty_masks_are_a_warning(site: Path) -> None:
    save_nifti(site / "a/masks/c1.nii.gz", np.zeros((12, 20, 16), np.uint8))
    data = volumes(site, foreground_slices=1.0)
    assert [f.text for f in data.survey().findings] == [
        "site a: mask without foreground: c1. Look whether that is true."
    ]
    assert len(list(data.train_loader("a", seed=0))) == 16


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"spacing": 1.0}, "data.spacing resamples, which data.image_size would undo"),
        ({"spacing": 0.0}, "data.spacing is 0"),
        ({"intensity_window": (240, -160)}, "data.intensity_window is 240 to -160"),
        ({"context": -1}, "data.context is -1"),
        ({"foreground_slices": 2.0}, "data.foreground_slices is 2"),
    ],
)
def test_a_wrong_argument_is_one_sentence(site: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        volumes(site, **settings).prepare()
    assert any(text.startswith(sentence) for text in caught.value.args), caught.value.args
