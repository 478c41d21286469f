"""What is read of DICOM files: pixels, their place and what they mean, and nothing that names a patient.

Only the listed elements are parsed, so that no other one can get into a message, a log or a run folder; and what
pydicom says of a broken value is not repeated, because it quotes the value.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlight.data.source import CaseError
from fedlight.data.stack import Array

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations: with a frame a segment, and with label maps."""

_PLACE = [
    *("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "ImageOrientationPatient"),
    *("ImagePositionPatient", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "SegmentationType", "SegmentSequence", "MaximumFractionalValue"),
]
_PIXELS = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ModalityLUTSequence", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a file and where it lies; x goes from right to left, y from front to back, z from feet to head.

    Attributes:
        path: The file.
        number: Of the frame in it.
        position: (3,), of the first pixel, in mm; None if unknown.
        along_row: (3,), unit vector from a pixel to the next one of its row.
        along_column: (3,), unit vector from a row to the next.
        spacing: (y, x) of the pixels in mm; None if unknown.
        thickness: In mm; 1 if unknown.
        slope: Factor of what is stored.
        offset: Added to it then.
        segment: The number of the segment it shows, in segmentations with a frame a segment; else 0.
    """

    path: Path
    number: int
    position: npt.NDArray[np.float64] | None
    along_row: npt.NDArray[np.float64]
    along_column: npt.NDArray[np.float64]
    spacing: tuple[float, float] | None
    thickness: float
    slope: float
    offset: float
    segment: int


def where(path: Path) -> str:
    """Names a file in a message."""
    return f"{path.parent.name}/{path.name}"


def read_place(path: Path) -> Any:
    """Reads all but the pixels.

    Raises:
        CaseError: If the file is no DICOM, or pydicom is not installed.
    """
    return _read(path, _PLACE, stop_before_pixels=True)


def read_pixels(path: Path) -> tuple[Array, Any]:
    """Reads the frames of a file as stored, (frames, H, W), or (frames, H, W, 3) in colour, and what belongs to them.

    Raises:
        CaseError: If there are none, their decoder is missing, or they are incomplete.
    """
    dataset = _read(path, _PIXELS)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise CaseError(("no pixels", where(path)))
    _check_decoder(dataset, path)
    try:
        pixels = np.asarray(dataset.pixel_array)
        many = int(dataset.get("NumberOfFrames") or 1) > 1
    except Exception as error:  # decoders raise what they like
        raise CaseError(("unreadable", f"{where(path)} (pixels incomplete or broken)")) from error
    return pixels if many else pixels[None], dataset


def frames_of(dataset: Any, path: Path) -> list[Frame]:
    """Returns the frames of a file and where they lie.

    Raises:
        CaseError: If a value of the header is no number, or nothing is said of the places of several frames.
    """
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
        shared = _only(dataset, "SharedFunctionalGroupsSequence")
        own = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        if len(own) != (count if own or count > 1 else 0):
            raise ValueError("of every frame is said where it lies")
        return [_frame(dataset, path, number, own[number] if own else None, shared) for number in range(count)]
    except Exception as error:  # values that are no numbers, sequences that are none
        raise CaseError(("header", where(path))) from error


def numbers(values: Any, count: int) -> npt.NDArray[np.float64] | None:
    """Returns as many finite numbers; None if there is nothing.

    Raises:
        ValueError: If they are others.
    """
    if values is None or values == "":
        return None
    found = np.array([float(value) for value in np.atleast_1d(np.asarray(values, dtype=object))])
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"{count} numbers are expected")
    return found


def quiet() -> None:
    """Keeps warnings of pydicom and highdicom from the terminal and logs: they quote values of files."""
    for name in ("pydicom", "highdicom"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:  # what has none goes to the terminal
            logger.addHandler(logging.NullHandler())
        warnings.filterwarnings("ignore", module=name)  # put in place once, however often it is called


def _read(path: Path, names: Sequence[str], stop_before_pixels: bool = False) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise CaseError(("dicom package", where(path))) from error
    quiet()
    try:
        return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, specific_tags=list(names))
    except Exception as error:  # pydicom raises what it likes on broken files
        raise CaseError(("unreadable", f"{where(path)} (no complete DICOM file)")) from error


def _check_decoder(dataset: Any, path: Path) -> None:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID") if "file_meta" in vars(dataset) else None
    if syntax is None:
        raise CaseError(("unreadable", f"{where(path)} (no transfer syntax)"))
    try:
        available = not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):  # video, and syntaxes that are private
        available = False
    if not available:
        raise CaseError(("decoder", f"{where(path)} ({syntax.name.partition(', Non-Hier')[0]})"))


def _only(dataset: Any, name: str) -> Any:
    items = None if dataset is None else dataset.get(name)
    return items[0] if items else None


def _frame(dataset: Any, path: Path, number: int, own: Any, shared: Any) -> Frame:
    def group(name: str) -> Any:
        found = _only(own, name)
        return _only(shared, name) if found is None else found

    grouped = own is not None or shared is not None
    plane = group("PlanePositionSequence") if grouped else dataset
    direction = group("PlaneOrientationSequence") if grouped else dataset
    sizes = group("PixelMeasuresSequence") if grouped else dataset
    rescale = group("PixelValueTransformationSequence") if grouped else dataset
    position, spacing = _get(plane, "ImagePositionPatient", 3), _get(sizes, "PixelSpacing", 2)
    if spacing is None:
        spacing = _get(dataset, "ImagerPixelSpacing", 2)
    if spacing is not None and not spacing.min() > 0:
        raise ValueError("pixels have a size above 0")
    thickness, slope, offset = (
        _get(*of, 1) for of in ((sizes, "SliceThickness"), (rescale, "RescaleSlope"), (rescale, "RescaleIntercept"))
    )
    along_row, along_column = _directions(_get(direction, "ImageOrientationPatient", 6))
    segment = _get(group("SegmentIdentificationSequence"), "ReferencedSegmentNumber", 1) if grouped else None
    return Frame(
        path,
        number,
        position,
        along_row,
        along_column,
        None if spacing is None else (float(spacing[0]), float(spacing[1])),
        1.0 if thickness is None or not thickness[0] > 0 else float(thickness[0]),
        1.0 if slope is None else float(slope[0]),
        0.0 if offset is None else float(offset[0]),
        0 if segment is None else int(segment[0]),
    )


def _get(dataset: Any, name: str, count: int) -> npt.NDArray[np.float64] | None:
    return None if dataset is None else numbers(dataset.get(name), count)


def _directions(given: npt.NDArray[np.float64] | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns unit vectors along a row and along a column; where nothing is known, those of an axial slice."""
    if given is None:
        return np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    row, column = given[:3], given[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if any(not math.isclose(length, 1, abs_tol=0.01) for length in lengths) or abs(float(row @ column)) > 0.01:
        raise ValueError("rows and columns have directions at right angles")
    return row / lengths[0], column / lengths[1]
