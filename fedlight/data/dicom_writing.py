"""Masks of a DICOM series as DICOM-SEG, which refers to its images, and probabilities and the like as NIfTI.

A segmentation belongs to the study of its images, so it repeats what they say of the patient. Nothing else does:
neither probabilities and uncertainty nor any name of a file.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fedlight
from fedlight.data.dicom_reading import Frame, quiet
from fedlight.data.federated import DataError
from fedlight.data.stack import Affine, Array

SERIES_NUMBER = 900
"""Of segmentations; beyond those that scanners give."""

_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    "StudyTime",
)
_REPEATED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_LONGEST = 64  # characters of a label


def write_map(voxels: Array, affine: Affine | None, target: Path) -> Path:
    """Writes (S, H, W) or several maps (S, H, W, K) on the grid of a series, with where it lies, if that is known."""
    if affine is None:
        np.save(target.with_name(f"{target.name}.npy"), voxels)
        return target.with_name(f"{target.name}.npy")
    import nibabel

    target = target.with_name(f"{target.name}.nii.gz")
    image = nibabel.Nifti1Image(np.ascontiguousarray(voxels.swapaxes(0, 2)), affine[:, [2, 1, 0, 3]])
    image.header.set_xyzt_units("mm")
    nibabel.save(image, target)
    return target


def write_segmentation(voxels: Array, frames: Sequence[Frame], classes: Sequence[str], target: Path) -> Path:
    """Writes class indices, (S, H, W), as segments of the images that they are found in; empty frames are left out.

    Args:
        voxels: uint8, on the grid of the series.
        frames: Of the series, in the order of the slices.
        classes: Names of the classes, background first.
        target: Without an ending.

    Raises:
        DataError: If highdicom is not installed, or the images lack what a segmentation must say.
    """
    try:
        import highdicom
    except ImportError as error:
        raise DataError(
            "a mask of DICOM images needs highdicom. Get it with: pip install 'fedlight[dicom]'."
        ) from error
    quiet()
    target = target.with_name(f"{target.name}.dcm")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom quotes what the images say
            _segmentation(highdicom, voxels, frames, classes).save_as(target)
    except Exception as error:  # highdicom raises what it likes on images that are no proper DICOM
        target.unlink(missing_ok=True)
        if isinstance(error, OSError | DataError):
            raise
        raise DataError(
            f"no DICOM-SEG could be made ({type(error).__name__}: its images lack what one must repeat). "
            "Convert the series to NIfTI."
        ) from error
    return target


def _segmentation(highdicom: Any, voxels: Array, frames: Sequence[Frame], classes: Sequence[str]) -> Any:
    from pydicom.uid import generate_uid

    images, pixels = _in_order_of_files(voxels, frames)
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[_segment(highdicom, number, name) for number, name in enumerate(classes) if number],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="fedlight",
        manufacturer_model_name="fedlight",
        software_versions=fedlight.__version__,
        device_serial_number="none",
        content_label="SEGMENTATION",
        content_description="Segmentation by a federated network",
        series_description="Segmentation (fedlight)",
    )


def _in_order_of_files(voxels: Array, frames: Sequence[Frame]) -> tuple[list[Any], Array]:
    """Returns the images that are referred to and the mask in their order: that of files, or of frames in one."""
    paths = list(dict.fromkeys(frame.path for frame in frames))
    placed, thickness = frames[0].position is not None, _thickness(frames)
    images = [_image(path, thickness, placed) for path in paths]
    return images, voxels if len(paths) > 1 else voxels[np.argsort([frame.number for frame in frames])]


def _thickness(frames: Sequence[Frame]) -> float:
    """From slice to slice, in mm, where there are several."""
    first, second = frames[0].position, frames[min(1, len(frames) - 1)].position
    if len(frames) == 1 or first is None or second is None:
        return frames[0].thickness
    return float(np.linalg.norm(second - first))


def _image(path: Path, thickness: float, placed: bool) -> Any:
    """Reads all that is said of an image, with what a segmentation must repeat left empty if it is not said."""
    import pydicom

    image = pydicom.dcmread(path, stop_before_pixels=True)
    needed = (*_REPEATED, "FrameOfReferenceUID") if placed else _REPEATED
    if missing := [name for name in needed if not image.get(name)]:
        raise DataError(
            f"a DICOM-SEG must repeat {' and '.join(missing)} of its images, which {path.name} lacks. Put it back, "
            "or convert the series to NIfTI."
        )
    for name in _EMPTY:
        if name not in image:
            setattr(image, name, "")
    if "ImagePositionPatient" in image and not image.get("SliceThickness"):
        image.SliceThickness = f"{thickness:.10g}"
    if image.PatientSex not in ("", "M", "F", "O"):
        image.PatientSex = ""
    return image


def _segment(highdicom: Any, number: int, name: str) -> Any:
    codes: Any = highdicom.sr.CodedConcept
    tissue = codes("85756007", "SCT", "Tissue")  # what a class is in anatomy is not known
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name.replace("\\", "/")[:_LONGEST],
        segmented_property_category=tissue,
        segmented_property_type=tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="fedlight",
            version=fedlight.__version__,
            family=codes("123110", "DCM", "Artificial Intelligence"),
        ),
    )
