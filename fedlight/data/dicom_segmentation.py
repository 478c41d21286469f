"""DICOM-SEG as a mask: its frames put where they lie on the grid of a volume, with the classes that its segments mean.

Segments mean the classes of their labels if these are names of classes, else those that their numbers stand for. A
frame that a segmentation leaves out is background there, and of fractional ones half and more is inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlight.data.dicom_reading import SEGMENTATIONS, Frame, frames_of, read_pixels, read_place, where
from fedlight.data.dicom_series import TO_RAS
from fedlight.data.image_files import MaskValues
from fedlight.data.source import CaseError
from fedlight.data.stack import Affine, Array, Stack, Turn, three
from fedlight.file_names import dicom_files, is_dicom, stem

OFF_GRID = 0.2
"""Voxels by which frames may lie off the grid of the volume; headers round positions."""

OTHER_SIZE = 0.01
"""Share by which the steps from pixel to pixel may differ from those of the volume."""

_LABELMAP = "LABELMAP"


def is_segmentation(path: Path) -> bool:
    """Says whether a file, or the only one in a folder, is a DICOM-SEG; False for what cannot be read."""
    try:
        return is_dicom(path) and str(read_place(_file(path)).get("SOPClassUID")) in SEGMENTATIONS
    except (CaseError, IndexError):
        return False


def open_segmentation(path: Path, volume: Stack, meaning: MaskValues | None) -> Stack:
    """Reads a segmentation on the grid of a volume, as class indices.

    Args:
        path: The file, or a folder that holds nothing else.
        volume: What it is a segmentation of.
        meaning: What its segments mean; None makes all of them 1.

    Raises:
        CaseError: If it is of another frame of reference, does not fit the grid, or its segments mean no class or
            overlap.
    """
    file = _file(path)
    dataset = read_place(file)
    name = stem(path)
    if volume.frame and str(dataset.get("FrameOfReferenceUID") or volume.frame) != volume.frame:
        raise CaseError(("frame of reference", name))
    labels = _labels(dataset, file)
    classes, remarks = _classes(name, labels, meaning)
    found = _placed(name, file, dataset, volume, classes)
    if volume.turn is not None:
        found = volume.turn.forth(found)
    return Stack(
        found, 1.0, 0.0, volume.spacing, volume.in_mm, volume.turn, volume.write, indices=True, remarks=remarks
    )


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = dicom_files(path)
    if len(files) > 1:
        raise CaseError(("not a volume", f"{stem(path)} ({len(files)} files in place of one segmentation)"))
    return files[0]


# --- what segments mean --------------------------------------------------------------------------------------------


def _labels(dataset: Any, file: Path) -> dict[int, str]:
    """Returns the labels of segments by number."""
    try:
        items = dataset.get("SegmentSequence") or ()
        found = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "").strip() for item in items}
    except Exception as error:  # numbers that are none
        raise CaseError(("header", where(file))) from error
    return {number: label for number, label in found.items() if number > 0}


def _classes(
    name: str, labels: Mapping[int, str], meaning: MaskValues | None
) -> tuple[dict[int, int], tuple[tuple[str, str], ...]]:
    """Returns the class of every segment, and a remark if their numbers were all there was to go by."""
    if meaning is None or meaning.threshold is not None:
        return dict.fromkeys(labels, 1), ()
    names = {known.strip().lower(): index for index, known in enumerate(meaning.names)}
    known = {number: names[label.lower()] for number, label in labels.items() if label.lower() in names}
    by_number = {number: meaning.classes[number] for number in labels if number in meaning.classes}
    found = known or by_number
    if unknown := [_segment(number, label) for number, label in labels.items() if number not in found]:
        raise CaseError(("mask values", f"{name} ({', '.join(unknown)})"))
    unsure = meaning.names and not known and len(labels) > 1
    shown = ", ".join(_segment(number, label) for number, label in labels.items())
    return found, ((("segments by number", f"{name} ({shown})"),) if unsure else ())


def _segment(number: int, label: str) -> str:
    return f"segment {number} {label}".strip()


# --- where they lie ------------------------------------------------------------------------------------------------


def _placed(name: str, file: Path, dataset: Any, volume: Stack, classes: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    """Puts frames on the grid of the file of the volume."""
    result = np.zeros(_shape(name, volume), np.uint8)
    frames = frames_of(dataset, file)
    overlapping = False
    for frame, shown in zip(frames, _pixels(name, file, dataset, len(frames)), strict=True):
        values = _values(name, frame, shown, dataset, classes)
        inner = np.nonzero(values)
        if inner[0].size:
            place = _indices(name, frame, volume, *inner)
            there, new = result[place], values[inner]
            overlapping |= bool(((there > 0) & (there != new)).any())
            result[place] = new
    if overlapping:
        raise CaseError(("segments overlap", name))
    return result


def _shape(name: str, volume: Stack) -> tuple[int, ...]:
    if volume.turn is not None:
        return volume.turn.shape
    if len(volume) > 1:  # nothing says which frame belongs to which slice
        raise CaseError(("other format", f"{name} (mask)"))
    return volume.stored.shape


def _pixels(name: str, file: Path, dataset: Any, frames: int) -> Array:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns:
        raise CaseError(("unreadable", f"{where(file)} (no complete DICOM file)"))
    three(name, (frames, rows, columns))
    pixels = read_pixels(file)[0]
    if pixels.shape != (frames, rows, columns):
        raise CaseError(("unreadable", f"{where(file)} (pixels incomplete or broken)"))
    return pixels


def _values(name: str, frame: Frame, shown: Array, dataset: Any, classes: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    """Returns the classes of the pixels of a frame, (H, W)."""
    if str(dataset.get("SegmentationType")) == _LABELMAP:
        return _mapped(name, shown, classes)
    if frame.segment not in classes:
        raise CaseError(("header", where(frame.path)))
    half = int(dataset.get("MaximumFractionalValue") or 1) / 2
    return np.where(shown >= half, np.uint8(classes[frame.segment]), np.uint8(0))


def _mapped(name: str, numbers: Array, classes: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    unknown = set(np.unique(numbers).tolist()) - classes.keys() - {0}
    if unknown:
        raise CaseError(("mask values", f"{name} ({', '.join(f'segment {number}' for number in sorted(unknown))})"))
    table = np.zeros(max(classes, default=0) + 1, np.uint8)
    for number, index in classes.items():
        table[number] = index
    return table[numbers]


def _indices(
    name: str, frame: Frame, volume: Stack, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> tuple[Array, ...]:
    """Returns the voxels in which pixels of a frame lie.

    Raises:
        CaseError: If they lie between voxels, or outside.
    """
    if volume.turn is None:
        found = np.stack([np.zeros_like(rows), rows, columns]).astype(np.float64)  # one picture that lies nowhere
    else:
        to_voxels = _to_voxels(name, frame, volume.turn)
        found = (to_voxels @ np.stack([rows, columns, np.zeros_like(rows), np.ones_like(rows)]))[:3]
    nearest = np.rint(found).astype(np.int64)  # (3, pixels)
    if (abs(found - nearest) > OFF_GRID).any():
        raise CaseError(_off(name, frame, "lies between its voxels"))
    if ((nearest < 0) | (nearest >= np.array(_shape(name, volume))[:, None])).any():
        raise CaseError(_off(name, frame, "lies outside of it"))
    return tuple(nearest)


def _to_voxels(name: str, frame: Frame, turn: Turn) -> Affine:
    """Returns what makes row and column of a frame an index in the file of the volume, (4, 4)."""
    if frame.position is None or frame.spacing is None:
        raise CaseError(("header", where(frame.path)))
    to_voxels: Affine = np.linalg.inv(turn.affine) @ TO_RAS @ _affine(frame, frame.position, frame.spacing)
    if abs(np.linalg.norm(to_voxels[:3, :2], axis=0) - 1).max() > OTHER_SIZE:
        raise CaseError(_off(name, frame, "has pixels of another size"))
    return to_voxels


def _off(name: str, frame: Frame, what: str) -> tuple[str, str]:
    return "elsewhere", f"{name} (frame {frame.number + 1} of the segmentation {what})"


def _affine(frame: Frame, position: npt.NDArray[np.float64], spacing: tuple[float, float]) -> Affine:
    """Row, column and nothing to mm, (4, 4), in DICOM's axes."""
    affine = np.zeros((4, 4))
    affine[:3, 0], affine[:3, 1] = frame.along_column * spacing[0], frame.along_row * spacing[1]
    affine[:3, 3], affine[3, 3] = position, 1
    return affine
