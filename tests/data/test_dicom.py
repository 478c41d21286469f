"""Claims about DICOM: where voxels of series and segmentations lie, what is said of broken ones, who stays unnamed."""

from __future__ import annotations

import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, generate_uid

from fedlight.data.check import check
from fedlight.data.federated import DataError
from fedlight.data.folder import FolderSites
from fedlight.data.image_files import MaskValues
from fedlight.data.source import CaseError
from fedlight.data.stack import Axis, Stack
from fedlight.data.volume_files import open_mask, open_stack
from tests.data.dicom_sites import (
    AXIAL,
    OBLIQUE,
    ORIGIN,
    SECRETS,
    SPACING,
    change,
    dicom_site,
    save_enhanced,
    save_segmentation,
    save_series,
    turned,
)
from tests.data.volume_sites import ball, grey, save_nifti

LESION = MaskValues({0: 0, 1: 1, 255: 1}, None, ("background", "lesion"))


def series(root: Path, **settings: Any) -> FolderSites:
    given: dict[str, Any] = {"image_size": 16, "channels": 1, "classes": ("background", "lesion")} | settings
    return FolderSites(str(root), **given)


def voxels(stack: Stack) -> np.ndarray[Any, Any]:
    return np.stack([stack.values(index) for index in range(len(stack))])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that is made once and copied."""
    return dicom_site(tmp_path_factory.mktemp("made"), "a", cases=3)


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Path:
    """A root with the site "a": three series of 16 slices of 20 x 12, with segmentations."""
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


# --- where voxels lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@pytest.mark.parametrize("enhanced", [False, True])
def test_one_body_in_dicom_and_in_nifti_is_one_stack(
    tmp_path: Path, axis: Axis, orientation: tuple[float, ...], enhanced: bool
) -> None:
    """DICOM's x and y point to the left and to the back, NIfTI's to the right and to the front.

    Column, row and slice of the NIfTI file step along a row, along a column and along their cross product.
    """
    body = grey(0) // 2 * 2  # the multi-frame file stores every second intensity
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lps = np.eye(4)
    lps[:3, :3] = np.stack([row * SPACING[2], column * SPACING[1], np.cross(row, column) * SPACING[0]], axis=1)
    lps[:3, 3] = ORIGIN
    nifti = open_stack(save_nifti(tmp_path / "v.nii", body, np.diag([-1.0, -1, 1, 1]) @ lps), axis)
    save = save_enhanced if enhanced else save_series
    dicom = open_stack(save(tmp_path / ("v.dcm" if enhanced else "v"), turned(body), orientation), axis)
    assert np.array_equal(voxels(dicom), voxels(nifti))
    assert dicom.spacing == pytest.approx(nifti.spacing)
    assert dicom.turn is not None
    assert nifti.turn is not None
    np.testing.assert_allclose(dicom.turn.seen, nifti.turn.seen, atol=1e-4)


def test_every_slice_is_rescaled_as_it_says(tmp_path: Path) -> None:
    """The first file stores half of what the others do and says twice."""
    folder = save_series(tmp_path / "v", turned(grey(0)))
    file = sorted(folder.iterdir())[0]
    half = pydicom.dcmread(file).pixel_array // 2
    before = voxels(open_stack(folder, "axial"))
    change(file, RescaleSlope=2, PixelData=half.astype(np.uint16).tobytes())
    assert abs(voxels(open_stack(folder, "axial")) - before).max() == 1  # odd values lose one


def test_what_is_stored_inversely_becomes_bright_on_dark(tmp_path: Path) -> None:
    """Of 12 bits, 4095 - x is stored: the brightest is 0."""
    plain = save_series(tmp_path / "a", turned(grey(0)), offset=-1024.0)
    inverse = save_series(tmp_path / "b", 4095 - 2 * 1024 - turned(grey(0)), offset=-1024.0)
    for file in inverse.iterdir():
        change(file, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    assert np.array_equal(voxels(open_stack(inverse, "axial")), voxels(open_stack(plain, "axial")))


def test_files_need_no_ending_and_may_lie_deeper(tmp_path: Path) -> None:
    flat = save_series(tmp_path / "a" / "STUDY" / "SER1", turned(grey(0)))
    for file in list(flat.iterdir()):
        file.rename(file.with_suffix(""))
    (flat / "README").write_text("no image")
    assert len(open_stack(tmp_path / "a", "axial")) == 16


def test_compressed_slices_are_read(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "v", turned(grey(0)))
    before = voxels(open_stack(folder, "axial"))
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)  # run lengths
        dataset.save_as(file)
    assert np.array_equal(voxels(open_stack(folder, "axial")), before)


# --- what a site of series is like -----------------------------------------------------------------------------------


def test_a_folder_is_a_case_with_its_name(site: Path) -> None:
    data = series(site)
    assert data.describe() == [{"site": "a", "train": 1, "val": 1, "test": 1, "sizes": {"16x20x12": 3}}]
    assert data.distance_unit == "mm"
    batch = next(iter(data.loader("a", "val")))
    assert batch["case"][0] in ("c0", "c1", "c2")
    assert batch["spacing"][0].tolist() == pytest.approx(SPACING)
    assert int(batch["mask"].sum()) == ball().sum()
    assert [finding.text for finding in check(data).findings] == []


def test_nifti_masks_and_fields_of_view_go_with_series(site: Path) -> None:
    """The affine that converters give a series: DICOM's, with the first two axes turned round."""
    affine = np.array([[-0.7, 0, 0, 30.0], [0, -0.8, 0, -20.0], [0, 0, 3.0, -100.0], [0, 0, 0, 1]])
    for index in range(3):
        (site / f"a/masks/c{index}.dcm").unlink()
        save_nifti(site / f"a/masks/c{index}.nii.gz", ball(), affine)
        save_segmentation(site / f"a/fov/c{index}/1.dcm", site / f"a/images/c{index}", turned(ball()))
    batch = next(iter(series(site).loader("a", "val")))
    assert np.array_equal(batch["mask"].numpy() > 0, batch["valid"].numpy())
    assert int(batch["mask"].sum()) == ball().sum()


def test_nothing_that_names_the_patient_is_read(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Broken values are what pydicom quotes in its warnings; here every file has some."""
    for file in site.glob("a/images/*/*.dcm"):
        raw = file.read_bytes()
        file.write_bytes(raw.replace(b"19700101", b"Doe^Jane").replace(b"20200101", b"Doe^Jane"))
    change(next(site.glob("a/images/c1/*.dcm")), SeriesInstanceUID="1.2.3")
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            report = check(series(site))
    finally:
        logging.getLogger().removeHandler(handler)
    said = " ".join([str(report), *seen, *(str(warning.message) for warning in warned), *capfd.readouterr()])
    assert "several series in one folder: c1 (series 3" in said
    assert not [secret for secret in (*SECRETS, "1.2.3") if secret in said]


# --- segmentations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_frames_lie_where_they_say_and_absent_ones_are_background(tmp_path: Path, kind: str) -> None:
    """Eight of 16 slices show the ball; fractional segments are inside from a half."""
    folder, mask = save_series(tmp_path / "v", turned(grey(0)), OBLIQUE), turned(ball())
    given: Any = mask * 0.6 + (1 - mask) * 0.4 if kind == "FRACTIONAL" else mask
    path = save_segmentation(tmp_path / "m.dcm", folder, given, segmentation_type=kind)
    if kind == "BINARY":
        assert len(pydicom.dcmread(path).PerFrameFunctionalGroupsSequence) == 8
    volume = open_stack(folder, "sagittal")
    assert volume.turn is not None
    found = open_mask(path, "sagittal", volume, LESION)
    assert np.array_equal(volume.turn.back(found.stored), mask)


def test_segments_are_classes_by_label_and_else_by_number(tmp_path: Path) -> None:
    """Cup is number 1 and disc number 2, as classes 2 and 1; other labels count by number, which is said."""
    folder, mask = save_series(tmp_path / "v", turned(grey(0))), turned(ball())
    mask[:, :10] *= 2
    volume = open_stack(folder, "axial")
    meaning = MaskValues({0: 0, 1: 1, 2: 2}, None, ("background", "disc", "cup"))
    named = open_mask(save_segmentation(tmp_path / "a.dcm", folder, mask, ("Cup", "DISC")), "axial", volume, meaning)
    other = open_mask(save_segmentation(tmp_path / "b.dcm", folder, mask, ("x", "y")), "axial", volume, meaning)
    assert volume.turn is not None
    assert np.array_equal(volume.turn.back(other.stored), mask)
    assert np.array_equal(volume.turn.back(named.stored), np.array([0, 2, 1], np.uint8)[mask])
    assert named.remarks == ()
    assert other.remarks == (("segments by number", "b (segment 1 x, segment 2 y)"),)
    given = MaskValues({1: 0, 2: 1}, None)
    chosen = open_mask(tmp_path / "a.dcm", "axial", volume, given)
    assert np.array_equal(volume.turn.back(chosen.stored), mask == 2)


def test_a_segmentation_fits_the_nifti_volume_of_its_series_and_no_array_without_places(tmp_path: Path) -> None:
    """Of an array nobody knows which frame belongs to which slice."""
    folder, mask = save_series(tmp_path / "v", turned(grey(0))), turned(ball())
    path = save_segmentation(tmp_path / "m.dcm", folder, mask)
    affine = np.array([[-0.7, 0, 0, 30.0], [0, -0.8, 0, -20.0], [0, 0, 3.0, -100.0], [0, 0, 0, 1]])
    nifti = open_stack(save_nifti(tmp_path / "v.nii", grey(0), affine), "coronal")
    found = open_mask(path, "coronal", nifti, LESION)
    assert nifti.turn is not None
    assert np.array_equal(nifti.turn.back(found.stored), ball())
    np.save(tmp_path / "v.npy", turned(grey(0)))
    with pytest.raises(CaseError, match="other format"):
        open_mask(path, "axial", open_stack(tmp_path / "v.npy", "axial"), LESION)


def test_segments_that_overlap_need_one_class(tmp_path: Path) -> None:
    folder, mask = save_series(tmp_path / "v", turned(grey(0))), turned(ball())
    path = save_segmentation(tmp_path / "m.dcm", folder, np.stack([mask, mask], axis=-1), ("x", "y"))
    volume = open_stack(folder, "axial")
    with pytest.raises(CaseError, match="segments overlap"):
        open_mask(path, "axial", volume, MaskValues({1: 1, 2: 2}, None))
    assert open_mask(path, "axial", volume, MaskValues({1: 1, 2: 1}, None)).stored.sum() == mask.sum()


# --- what cannot be used ---------------------------------------------------------------------------------------------


def slices(site: Path) -> list[Path]:
    """The files of c1 in the order of their places."""
    return sorted((site / "a/images/c1").iterdir(), key=lambda file: int(pydicom.dcmread(file).InstanceNumber))


def shorten(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def compressed(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)


def broken_stream(path: Path) -> None:
    compressed(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(path)


def tilt(site: Path) -> None:
    for index, file in enumerate(slices(site)):
        change(file, ImagePositionPatient=[-30, 20 + 0.5 * index, -100 + 3 * index])


def colour(path: Path) -> None:
    change(path, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)


def huge(site: Path) -> None:
    for file in slices(site):
        change(file, Rows=60000, Columns=60000)


def second_series(site: Path) -> None:
    uid = generate_uid()
    for file in slices(site)[8:]:
        change(file, SeriesInstanceUID=uid, SeriesNumber=4)


def elsewhere(site: Path) -> None:
    mask = pydicom.dcmread(site / "a/masks/c1.dcm")
    position = mask.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient
    position[2] = float(position[2]) + 1.5
    mask.save_as(site / "a/masks/c1.dcm")


def coarse(site: Path) -> None:
    """Pixels of twice the size would lie on every second voxel."""
    mask = pydicom.dcmread(site / "a/masks/c1.dcm")
    mask.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.6, 1.4]
    mask.save_as(site / "a/masks/c1.dcm")


def outside(site: Path) -> None:
    for file in slices(site)[:6]:
        file.unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "header cut off": (
        lambda site: shorten(slices(site)[3], 300),
        "cannot be read as an image: c1/IM005003.dcm (no complete",
    ),
    "pixels cut off": (lambda site: shorten(slices(site)[3], -100), "cannot be read as an image: c1/IM"),
    "no DICOM": (lambda site: slices(site)[3].write_bytes(b"no"), "cannot be read as an image: c1/IM"),
    "no image": (lambda site: change(slices(site)[3], Rows=None, PixelData=None), "DICOM without an image: c1/IM"),
    "frames that lie nowhere": (
        lambda site: change(slices(site)[0], NumberOfFrames=10**9),
        "file that is not one volume: c1 (16 files, some of which are volumes themselves)",
    ),
    "no pixels": (lambda site: change(slices(site)[3], PixelData=None), "DICOM without an image: c1/IM"),
    "a decoder is missing": (
        lambda site: compressed(slices(site)[3]),
        "compressed DICOM whose decoder is missing: c1/IM005003.dcm (JPEG Lossless)",
    ),
    "a stream is broken": (lambda site: broken_stream(slices(site)[3]), "cannot be read as an image: c1/IM005003.dcm"),
    "a copy of a slice": (
        lambda site: (site / "a/images/c1/copy.dcm").write_bytes(slices(site)[3].read_bytes()),
        "slices at one place: c1 (IM005003.dcm and copy.dcm)",
    ),
    "a slice is missing": (
        lambda site: slices(site)[5].unlink(),
        "slices that are missing or not evenly spaced: c1 (6 mm instead of 3 mm between IM012004.dcm and IM010006.dcm)",
    ),
    "two series": (
        second_series,
        "several series in one folder: c1 (series 3: 8 files such as IM000000.dcm; series 4: 8 files such as IM",
    ),
    "another size": (
        lambda site: change(slices(site)[3], Rows=10),
        "slices that are not on one grid: c1 (sizes 10x12, 20x12)",
    ),
    "another direction": (
        lambda site: change(slices(site)[3], ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        "slices that are not on one grid: c1 (IM000000.dcm and IM005003.dcm, in direction or spacing)",
    ),
    "no position": (
        lambda site: change(slices(site)[3], ImagePositionPatient=None),
        "header that does not say where voxels lie: c1/IM005003.dcm",
    ),
    "colour": (lambda site: colour(slices(site)[3]), "volume in colour or of complex numbers: c1/IM005003.dcm"),
    "huge": (
        huge,
        "volume of more than two billion voxels: c1 (16x60000x60000)",
    ),
    "a segmentation as an image": (
        lambda site: (site / "a/images/c1/seg.dcm").write_bytes((site / "a/masks/c1.dcm").read_bytes()),
        "DICOM-SEG among the images: c1/seg.dcm. Move it into masks/",
    ),
    "another frame of reference": (
        lambda site: change(site / "a/masks/c1.dcm", FrameOfReferenceUID=generate_uid()),
        "DICOM-SEG of another frame of reference than its images: c1",
    ),
    "between slices": (
        elsewhere,
        "mask or field of view that lies elsewhere than its volume: c1 (frame 3 of the segmentation lies between its",
    ),
    "with larger pixels": (
        coarse,
        "mask or field of view that lies elsewhere than its volume: c1 (frame 1 of the segmentation has pixels of an",
    ),
    "outside": (
        outside,
        "mask or field of view that lies elsewhere than its volume: c1 (frame",
    ),
    "a segment of no class": (
        lambda site: save_segmentation(
            site / "a/masks/c1.dcm", site / "a/images/c1", turned(ball()), ("lesion", "cyst")
        ),
        "mask with values that belong to no class: c1 (segment 2 cyst)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_one_sentence(site: Path, name: str) -> None:
    damage, sentence = BROKEN[name]
    damage(site)
    with pytest.raises(DataError) as caught:
        series(site, val_fraction=0.4).prepare()
    assert [text[: len(sentence) + 8] for text in caught.value.args] == [f"site a: {sentence}"], caught.value.args


def test_slices_without_a_folder_are_told_where_they_belong(site: Path) -> None:
    for file in slices(site):
        file.rename(site / "a/images" / file.name)
    with pytest.raises(DataError) as caught:
        series(site).prepare()
    assert "no mask for a DICOM file: IM000000.dcm, " in " ".join(caught.value.args)
    assert "put those of a series into a folder of its own in images/" in " ".join(caught.value.args)


def test_a_tilted_gantry_is_a_warning(site: Path) -> None:
    """0.5 mm to the side for 3 mm across are 9.46 degrees."""
    tilt(site)
    save_segmentation(site / "a/masks/c1.dcm", site / "a/images/c1", turned(ball()))
    (finding,) = check(series(site)).findings
    assert finding.severity == "warning"
    assert "as by a tilted gantry: c1 (9.46 degrees)" in finding.text


def test_without_pydicom_a_sentence_says_what_to_install(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"DICOM needs pydicom: .*pip install 'fedlight\[dicom\]'"):
        series(site).prepare()
