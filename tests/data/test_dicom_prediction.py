"""Claims about what ``predict`` writes of DICOM series: segmentations that refer to their images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import scipy
from PIL import Image

import fedlight
from fedlight.data.image_files import MaskValues
from fedlight.data.stack import Axis
from fedlight.data.volume_files import open_mask, open_stack
from fedlight.tasks.inference import find_images
from tests.data.dicom_sites import AXIAL, OBLIQUE, SECRETS, change, save_enhanced, save_series, turned
from tests.data.test_volume_prediction import predict
from tests.data.volume_sites import ball, grey

CUBE = (24, 24, 24)
"""As large as the grid that the network sees, so that nothing is resampled."""

MEANING = MaskValues({0: 0, 1: 1}, None, ("background", "foreground"))


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@pytest.mark.parametrize("enhanced", [False, True])
def test_a_segmentation_lies_where_it_was_found(
    tmp_path: Path, axis: Axis, orientation: tuple[float, ...], enhanced: bool
) -> None:
    """Opened again by place it is the ball; frames lie at the places of the images that they are said to come from."""
    body = turned(grey(0, CUBE))
    series = save_enhanced(tmp_path / "p.dcm", body, orientation) if enhanced else None
    series = series or save_series(tmp_path / "p", body, orientation)
    (row,) = predict(series, tmp_path / "out", axis=axis)
    assert row["status"] == "ok", row["reason"]
    path, volume = tmp_path / "out/masks/p.dcm", open_stack(series, axis)
    assert volume.turn is not None
    assert np.array_equal(volume.turn.back(open_mask(path, axis, volume, MEANING).stored), turned(ball(CUBE)))
    found = pydicom.dcmread(path)
    assert len(found.PerFrameFunctionalGroupsSequence) == turned(ball(CUBE)).any((1, 2)).sum()
    places = _places(series)
    for frame in found.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        number = int(source.get("ReferencedFrameNumber", 1))
        said = frame.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(places[source.ReferencedSOPInstanceUID, number], np.array(said, float), atol=1e-4)


def _places(series: Path) -> dict[tuple[str, int], Any]:
    """Position of every frame of a series, by the UID of its image and its number in it."""
    images = [pydicom.dcmread(file) for file in ([series] if series.is_file() else series.iterdir())]
    if len(images) > 1:
        return {(str(image.SOPInstanceUID), 1): np.array(image.ImagePositionPatient, float) for image in images}
    groups = images[0].PerFrameFunctionalGroupsSequence
    return {
        (str(images[0].SOPInstanceUID), number): np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for number, group in enumerate(groups, start=1)
    }


def test_it_says_who_made_it_and_of_whom(tmp_path: Path) -> None:
    """The study and the patient are those of the images; classes and program are named."""
    series = save_series(tmp_path / "p", turned(grey(0, CUBE)))
    image = pydicom.dcmread(next(series.iterdir()))
    predict(series, tmp_path / "out", classes=("background", "lesion"))
    found = pydicom.dcmread(tmp_path / "out/masks/p.dcm")
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert found[name].value == image[name].value
    assert found.SeriesInstanceUID != image.SeriesInstanceUID
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == image.SeriesInstanceUID
    (segment,) = found.SegmentSequence
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("lesion", "AUTOMATIC")
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("fedlight", fedlight.__version__)


def test_probabilities_and_uncertainty_are_nifti_and_name_nobody(tmp_path: Path) -> None:
    series = save_series(tmp_path / "p", turned(grey(0, CUBE)), OBLIQUE)
    predict(series, tmp_path / "out", probabilities=True, uncertainty=True)
    chances: Any = nibabel.load(tmp_path / "out/probabilities/p.nii.gz")
    assert chances.shape == (*CUBE, 2)
    assert np.array_equal(np.asarray(chances.dataobj).argmax(-1), ball(CUBE))
    uncertain: Any = nibabel.load(tmp_path / "out/uncertainty/p.nii.gz")
    expected = scipy.special.entr(np.asarray(chances.dataobj)).sum(-1) / np.log(2)
    assert np.asarray(uncertain.dataobj) == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(uncertain.affine, chances.affine)
    said = (tmp_path / "out/predictions.csv").read_bytes() + chances.header.binaryblock
    assert not [secret for secret in SECRETS if secret.encode() in said]
    assert np.asarray(Image.open(tmp_path / "out/overlays/p.png")).shape == (24, 5 * 24, 3)


def test_nothing_found_is_an_empty_segmentation(tmp_path: Path) -> None:
    """A segmentation without a frame is none, so it has all of them."""
    series = save_series(tmp_path / "p", np.full((24, 24, 24), -1000, np.int16))
    predict(series, tmp_path / "out", intensity_window=(-1000, 1000))
    mask = open_mask(tmp_path / "out/masks/p.dcm", "axial", open_stack(series, "axial"), MEANING)
    assert not mask.stored.any()


def test_what_was_removed_of_the_patient_may_be_missing(tmp_path: Path) -> None:
    series = save_series(tmp_path / "p", turned(grey(0, CUBE)))
    gone = ("PatientName", "PatientID", "PatientBirthDate", "StudyID", "StudyDate", "StudyTime", "AccessionNumber")
    for file in series.iterdir():
        change(file, **dict.fromkeys((*gone, "SliceThickness")), PatientSex="X")
    (row,) = predict(series, tmp_path / "out")
    assert row["status"] == "ok", row["reason"]


def test_a_radiograph_lies_nowhere_and_comes_back(tmp_path: Path) -> None:
    series = save_series(tmp_path / "in", turned(grey(0, CUBE))[12:13])
    for file in series.iterdir():
        change(
            file,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1",
            **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID")),
        )
    (row,) = predict(series, tmp_path / "out", probabilities=True)
    assert row["status"] == "ok", row["reason"]
    volume = open_stack(next(series.iterdir()), "axial")
    mask = open_mask(next((tmp_path / "out/masks").iterdir()), "axial", volume, MEANING)
    assert np.array_equal(mask.stored[0], turned(ball(CUBE))[12])
    assert volume.spacing[1:] == pytest.approx((0.8, 0.7))


def test_series_are_found_as_folders_and_volumes_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = turned(grey(0, (4, 4, 4)))
    one, two = save_series(tmp_path / "in/one", body), save_enhanced(tmp_path / "in/more/two.dcm", body)
    assert find_images([tmp_path / "in"], tmp_path / "out") == [two, one]
    assert find_images([one], tmp_path / "out") == [one]
    monkeypatch.chdir(one)
    assert [path.name for path in find_images([Path()], tmp_path / "out")] == ["one"]


def test_what_cannot_be_written_is_one_sentence_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_series(tmp_path / "in/a", turned(grey(0, CUBE)))
    for file in save_series(tmp_path / "in/b", turned(grey(0, CUBE))).iterdir():
        change(file, StudyInstanceUID=None)
    rows = predict(tmp_path / "in", tmp_path / "out")
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert rows[1]["reason"].startswith("a DICOM-SEG must repeat StudyInstanceUID of its images, which ")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    (row,) = predict(tmp_path / "in/a", tmp_path / "out")
    assert row["reason"].endswith("needs highdicom. Get it with: pip install 'fedlight[dicom]'.")
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert not [secret for secret in SECRETS if secret in said]
