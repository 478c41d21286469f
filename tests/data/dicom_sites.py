"""Small DICOM series and segmentations on disk, of a patient whose name must not turn up anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.data.volume_sites import ball, grey

SECRETS = ("Doe^Jane", "MRN-0815", "19700101", "General Hospital of Nowhere", "Dr^Secret")
"""Name, number, birthday, hospital and physician of the patient."""

AXIAL = (1.0, 0, 0, 0, 1, 0)
_C, _S = float(np.cos(0.3)), float(np.sin(0.3))
OBLIQUE = (_C, _S, 0.0, 0.0, 0.0, -1.0)
"""Coronal slices turned by 17 degrees around the long axis of the body."""

ORIGIN = (-30.0, 20.0, -100.0)
SPACING = (3.0, 0.8, 0.7)
"""(z, y, x) in mm."""


def turned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns an array of x, y, z as slices, rows and columns."""
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def save_series(
    folder: Path,
    voxels: npt.NDArray[Any],
    orientation: Sequence[float] = AXIAL,
    slope: float = 1.0,
    offset: float = -1024.0,
    **settings: Any,
) -> Path:
    """Writes (S, H, W) intensities as a file a slice, with names in another order than their places.

    Args:
        folder: Is made.
        voxels: What is stored is (voxels - offset) / slope, uint16.
        orientation: Directions along rows and columns.
        slope: To rescale with.
        offset: To rescale with.
        settings: Elements that are set in every file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    across = np.cross(orientation[:3], orientation[3:])
    common = _common(orientation) | settings
    for index, plane in enumerate(voxels):
        dataset = _empty(CTImageStorage)
        for name, value in common.items():
            setattr(dataset, name, value)
        dataset.ImagePositionPatient = [f"{v:.8g}" for v in np.array(ORIGIN) + across * SPACING[0] * index]
        dataset.InstanceNumber = index + 1
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, offset
        _set_pixels(dataset, ((plane - offset) / slope).round().astype(np.uint16))
        dataset.save_as(folder / f"IM{(index * 7) % len(voxels):03d}{index:03d}.dcm", enforce_file_format=True)
    return folder


def save_enhanced(path: Path, voxels: npt.NDArray[Any], orientation: Sequence[float] = AXIAL) -> Path:
    """Writes (S, H, W) intensities as one file with many frames, the last slice first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset, across = _empty(EnhancedCTImageStorage), np.cross(orientation[:3], orientation[3:])
    common = _common(orientation)
    shared = Dataset()
    measures, plane, rescale = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = common.pop("PixelSpacing"), common.pop("SliceThickness")
    plane.ImageOrientationPatient = common.pop("ImageOrientationPatient")
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [rescale]
    for name, value in common.items():
        setattr(dataset, name, value)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], []
    for index in reversed(range(len(voxels))):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [f"{v:.8g}" for v in np.array(ORIGIN) + across * SPACING[0] * index]
        frame.PlanePositionSequence = [position]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(voxels)
    _set_pixels(dataset, ((voxels[::-1] + 1024) / 2).round().astype(np.uint16))
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_segmentation(
    path: Path, series: Path, mask: npt.NDArray[np.uint8], labels: Sequence[str] = ("lesion",), **settings: Any
) -> Path:
    """Writes a mask as DICOM-SEG.

    Args:
        path: The file.
        series: The folder of its images, or a file.
        mask: (S, H, W) numbers of segments, or (S, H, W, segments) of ones that overlap.
        labels: Of the segments.
        settings: Of highdicom.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [series] if series.is_file() else list(series.iterdir())
    images = sorted(map(pydicom.dcmread, files), key=lambda image: int(image.InstanceNumber))
    given: dict[str, Any] = {"segmentation_type": "BINARY"} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=mask,
            segment_descriptions=[
                highdicom.seg.SegmentDescription(index + 1, label, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
                for index, label in enumerate(labels)
            ],
            series_instance_uid=generate_uid(),
            series_number=2,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="annotator",
            manufacturer_model_name="annotator",
            software_versions="1",
            device_serial_number="1",
            **given,
        ).save_as(path)
    return path


def dicom_site(root: Path, site: str, cases: int = 6) -> Path:
    """Writes a site of series of 16 slices of 20 x 12 pixels with balls, and segmentations of these."""
    for index in range(cases):
        seed = sum(site.encode()) * 1000 + index
        series = save_series(root / site / "images" / f"c{index}", turned(grey(seed)))
        save_segmentation(root / site / "masks" / f"c{index}.dcm", series, turned(ball()))
    return root


def change(path: Path, **settings: Any) -> None:
    """Sets elements of a file, or deletes those that are None."""
    dataset = pydicom.dcmread(path)
    for name, value in settings.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


def _empty(kind: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    return dataset


def _common(orientation: Sequence[float]) -> dict[str, Any]:
    name, number, birthday, hospital, physician = SECRETS
    return {
        "PatientName": name,
        "PatientID": number,
        "PatientBirthDate": birthday,
        "PatientSex": "F",
        "InstitutionName": hospital,
        "ReferringPhysicianName": physician,
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
        "SeriesNumber": 3,
        "Modality": "CT",
        "StudyID": "1",
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "AccessionNumber": "",
        "ImageOrientationPatient": [f"{v:.8g}" for v in orientation],
        "PixelSpacing": list(SPACING[1:]),
        "SliceThickness": SPACING[0],
    }


def _set_pixels(dataset: Dataset, pixels: npt.NDArray[np.uint16]) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels.tobytes()
