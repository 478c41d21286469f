"""Claims about what ``predict`` writes of volumes: masks in the input's own geometry."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from fedlight.data.folder import FolderSites
from fedlight.data.stack import Axis
from fedlight.data.volume_files import open_stack
from fedlight.tasks.inference import predict_folder
from fedlight.tasks.segmentation import SegmentationTask
from tests.data.volume_sites import AFFINE, ball, grey, save_nifti

TURNED = np.array([[0, 0.1, -0.8, 3.0], [0.02, -0.8, 0.1, 4.0], [3.0, 0, 0.1, -20.0], [0, 0, 0, 1]])
"""Oblique, with every axis of the file in another direction than on a screen."""


class Bright(SegmentationTask):
    """Says that what is in the upper half of intensities is foreground; no network is needed."""

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        return 8 * (images[:, images.shape[1] // 2, None] - 0.5)


def predict(
    path: Path, output: Path, probabilities: bool = False, uncertainty: bool = False, **settings: Any
) -> list[dict[str, Any]]:
    given: dict[str, Any] = {"image_size": (24, 24), "channels": 1} | settings
    data = FolderSites("nowhere", **given)
    task = Bright()
    task.bind(data.format)
    task.window = None
    return predict_folder(task, data, [path], output, probabilities, uncertainty=uncertainty)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("affine", [AFFINE, TURNED])
def test_a_mask_lies_where_its_volume_lies(tmp_path: Path, axis: Axis, affine: np.ndarray[Any, Any]) -> None:
    """Voxels, affine, codes and units are those of the input; the ball is where it is bright.

    The slices are only as large as the grid that the network sees, so that nothing is resampled.
    """
    path = save_nifti(tmp_path / "in" / "liver.nii.gz", grey(0, (24, 24, 24)), affine)
    predict(path, tmp_path / "out", axis=axis)
    before: Any = nibabel.load(path)
    after: Any = nibabel.load(tmp_path / "out" / "masks" / "liver.nii.gz")
    assert after.get_data_dtype() == np.uint8
    assert np.array_equal(after.affine, before.affine)
    for name in ("sform_code", "qform_code", "xyzt_units", "pixdim"):
        assert np.array_equal(after.header[name], before.header[name]), name
    assert np.array_equal(np.asarray(after.dataobj), ball((24, 24, 24)))


def test_probabilities_have_a_further_axis_and_the_overlay_a_few_slices(tmp_path: Path) -> None:
    """12 of 24 slices show the ball; five of them are drawn side by side."""
    path = save_nifti(tmp_path / "liver.nii", grey(0, (24, 24, 24)))
    (row,) = predict(path, tmp_path / "out", probabilities=True, context=1)
    mask = np.asarray(nibabel.load(tmp_path / "out/masks/liver.nii.gz").dataobj)
    chances = np.asarray(nibabel.load(tmp_path / "out/probabilities/liver.nii.gz").dataobj)
    assert chances.shape == (24, 24, 24, 2)
    assert chances.dtype == np.float32
    assert np.array_equal(chances.argmax(-1), mask)
    assert np.asarray(Image.open(tmp_path / "out/overlays/liver.png")).shape == (24, 5 * 24, 3)
    assert (row["slices"], row["height"], row["width"]) == (24, 24, 24)
    assert row["pixels/foreground"] == ball((24, 24, 24)).sum()
    with (tmp_path / "out/predictions.csv").open(newline="") as stream:
        assert next(csv.DictReader(stream))["slices"] == "24"


def test_the_uncertainty_of_a_volume_lies_where_the_volume_lies(tmp_path: Path) -> None:
    """One number a voxel, the entropy of its probabilities in bits, and five slices to look at."""
    path = save_nifti(tmp_path / "liver.nii.gz", grey(0, (24, 24, 24)), TURNED)
    (row,) = predict(path, tmp_path / "out", probabilities=True, uncertainty=True)
    volume: Any = nibabel.load(tmp_path / "out/uncertainty/liver.nii.gz")
    uncertain, chances = (
        np.asarray(nibabel.load(tmp_path / f"out/{name}/liver.nii.gz").dataobj)
        for name in ("uncertainty", "probabilities")
    )
    assert uncertain.shape == (24, 24, 24)
    assert uncertain.dtype == np.float32
    assert np.array_equal(volume.affine, nibabel.load(path).affine)
    bits = -(chances * np.log2(np.maximum(chances, 1e-30))).sum(-1)
    assert uncertain == pytest.approx(bits, abs=1e-5)
    assert row["entropy"] == pytest.approx(bits.mean(), abs=1e-5)
    assert np.asarray(Image.open(tmp_path / "out/uncertainty_overlays/liver.png")).shape == (24, 5 * 24, 3)


def test_resampled_slices_come_back_on_the_grid_of_the_file(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "liver.nii.gz", grey(0))
    predict(path, tmp_path / "out", image_size=None, patch_size=4, spacing=(0.4, 0.5))
    mask = np.asarray(nibabel.load(tmp_path / "out/masks/liver.nii.gz").dataobj)
    assert mask.shape == (12, 20, 16)
    assert (mask != ball()).mean() < 0.02


def test_numpy_volumes_and_planes_come_back_as_numpy(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", grey(0, (24, 24, 24)))
    np.save(tmp_path / "plane.npy", grey(0, (24, 24, 24))[12])
    predict(tmp_path, tmp_path / "out")
    assert np.array_equal(np.load(tmp_path / "out/masks/stack.npy"), ball((24, 24, 24)))
    assert np.array_equal(np.load(tmp_path / "out/masks/plane.npy"), ball((24, 24, 24))[12])


def test_the_spacing_of_a_numpy_volume_comes_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", image=grey(0, (24, 24, 24)), spacing=[3.0, 2.0, 1.0])
    predict(tmp_path / "v.npz", tmp_path / "out")
    found = open_stack(tmp_path / "out/masks/v.npz", "axial")
    assert (found.spacing, found.in_mm) == ((3, 2, 1), True)
    assert np.array_equal(found.stored, ball((24, 24, 24)))


def test_nifti_2_and_planes_keep_their_kind_and_shape(tmp_path: Path) -> None:
    volume = grey(0, (24, 24, 24))
    nibabel.save(nibabel.Nifti2Image(volume, np.eye(4)), tmp_path / "two.nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume[:, :, 12], np.eye(4)), tmp_path / "plane.nii.gz")
    for name in ("two", "plane"):
        (row,) = predict(tmp_path / f"{name}.nii.gz", tmp_path / "out")
        assert row["status"] == "ok", row["reason"]
    two, plane = (nibabel.load(tmp_path / f"out/masks/{name}.nii.gz") for name in ("two", "plane"))
    assert isinstance(two, nibabel.Nifti2Image)
    assert plane.shape == (24, 24)


def test_a_broken_volume_is_one_sentence_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_nifti(tmp_path / "in" / "b.nii.gz", grey(0))
    (tmp_path / "in" / "a.nii.gz").write_bytes((tmp_path / "in" / "b.nii.gz").read_bytes()[:900])
    save_nifti(tmp_path / "in" / "c.nii.gz", np.zeros((4, 4, 4, 2), np.uint8))
    rows = predict(tmp_path / "in", tmp_path / "out")
    assert [row["status"] for row in rows] == ["failed", "ok", "failed"]
    assert rows[2]["reason"].startswith("file that is not one volume: c (4x4x4x2). Save one volume a file")
    assert len(capsys.readouterr().err.splitlines()) == 2
