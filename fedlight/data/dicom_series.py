"""A DICOM series as a volume: a folder with a file a slice, or one file with many frames.

Slices are in the order of their places along the normal of their plane, whatever files are called. Intensities are
rescaled as the files say, and what is stored inversely (MONOCHROME1) is turned to bright on dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlight.data.dicom_reading import SEGMENTATIONS, Frame, frames_of, read_pixels, read_place, where
from fedlight.data.dicom_writing import write_map, write_segmentation
from fedlight.data.source import CaseError
from fedlight.data.stack import Affine, Array, Axis, Stack, Turn, three
from fedlight.file_names import dicom_files, stem

UNEVEN = 0.2
"""Distances between slices by which one may lie off an even grid; headers round positions."""

TILTED = 1.0
"""Degrees by which the way from slice to slice may lie off the normal of the slices."""

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From where DICOM's axes point to where those of affines do."""

_ALIKE = 1e-3  # of directions, and of sizes of pixels in mm


@dataclass(frozen=True, slots=True)
class Series:
    """Frames of one grid, in the order of their places.

    Attributes:
        name: Of the case.
        frames: Their order is that of the slices.
        shape: Slices, rows, columns.
        frame: The UID of the frame of reference; empty if unknown.
    """

    name: str
    frames: Sequence[Frame]
    shape: tuple[int, int, int]
    frame: str

    @property
    def affine(self) -> Affine | None:
        """Slice, row and column to mm, (4, 4), with axes as of NIfTI; None where positions are unknown."""
        first = self.frames[0]
        if first.position is None or first.spacing is None:
            return None
        lps = np.eye(4)
        lps[:3, 0], lps[:3, 3] = self._step(first.position), first.position
        lps[:3, 1], lps[:3, 2] = first.along_column * first.spacing[0], first.along_row * first.spacing[1]
        return TO_RAS @ lps

    def _step(self, start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        last = self.frames[-1].position
        if len(self.frames) == 1 or last is None:
            return normal(self.frames[0]) * self.frames[0].thickness
        step: npt.NDArray[np.float64] = (last - start) / (len(self.frames) - 1)
        return step


def open_series(path: Path, axis: Axis) -> Stack:
    """Opens a folder with the slices of a series, or a file, and decodes its pixels.

    Raises:
        CaseError: If it is no volume of grey values on one even grid.
    """
    series = read_series(path)
    stored, slope, offset = _voxels(series)
    affine = series.affine
    if affine is None:
        return _unplaced(series, stored, slope, offset)
    turn = Turn(affine, series.shape, axis)

    def write(array: Array, target: Path, classes: Sequence[str]) -> Path:
        voxels = np.ascontiguousarray(turn.back(array))
        if voxels.dtype.kind == "f":
            return write_map(voxels, turn.affine, target)
        return write_segmentation(voxels, series.frames, classes, target)

    remarks = _tilt(series)
    return Stack(
        turn.forth(stored), slope, offset, turn.spacing, True, turn, write, frame=series.frame, remarks=remarks
    )


def read_series(path: Path) -> Series:
    """Reads where the slices of a series lie and checks that they are a grid; pixels are not read.

    Raises:
        CaseError: If they are none.
    """
    files = dicom_files(path) if path.is_dir() else [path]
    datasets = [read_place(file) for file in files]
    for file, dataset in zip(files, datasets, strict=True):
        _check_kind(file, dataset)
    _check_one_series(path, files, datasets)
    frames = [frame for file, dataset in zip(files, datasets, strict=True) for frame in frames_of(dataset, file)]
    sizes = {(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)) for dataset in datasets}
    name = stem(path)
    if len(sizes) > 1:
        shown = ", ".join(sorted(f"{rows}x{columns}" for rows, columns in sizes))
        raise CaseError(("slices differ", f"{name} (sizes {shown})"))
    shape = three(name, (len(frames), *sizes.pop()))
    ordered = _ordered(name, frames)
    return Series(name, ordered, shape, str(datasets[0].get("FrameOfReferenceUID") or ""))


def normal(frame: Frame) -> npt.NDArray[np.float64]:
    """Returns the unit vector across a slice, (3,)."""
    across: npt.NDArray[np.float64] = np.cross(frame.along_row, frame.along_column)
    return across


# --- one grid ------------------------------------------------------------------------------------------------------


def _check_one_series(path: Path, files: Sequence[Path], datasets: Sequence[Any]) -> None:
    members: dict[str, list[int]] = {}
    for index, dataset in enumerate(datasets):
        members.setdefault(str(dataset.get("SeriesInstanceUID") or ""), []).append(index)
    if len(members) > 1:
        shown = [_named(datasets[group[0]], files[group[0]], len(group)) for group in members.values()]
        raise CaseError(("two series", f"{stem(path)} ({'; '.join(shown)})"))
    if len(files) > 1 and any(int(dataset.get("NumberOfFrames") or 1) > 1 for dataset in datasets):
        raise CaseError(("not a volume", f"{stem(path)} ({len(files)} files, some of which are volumes themselves)"))


def _named(dataset: Any, file: Path, count: int) -> str:
    """Names a series by its number and one of its files: unlike its UID and description, they point at nobody."""
    try:
        number = f"series {int(dataset.get('SeriesNumber'))}"
    except (TypeError, ValueError):
        number = "a series without number"
    return f"{number}: {count} {'file' if count == 1 else 'files'} such as {file.name}"


def _check_kind(file: Path, dataset: Any) -> None:
    if str(dataset.get("SOPClassUID") or "") in SEGMENTATIONS:
        raise CaseError(("segmentation", where(file)))
    if "SeriesInstanceUID" not in dataset:  # which every DICOM object has
        raise CaseError(("unreadable", f"{where(file)} (no complete DICOM file)"))
    if "Rows" not in dataset or "Columns" not in dataset:
        raise CaseError(("no pixels", where(file)))
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise CaseError(("volume values", where(file)))


def _ordered(name: str, frames: list[Frame]) -> list[Frame]:
    if len(frames) == 1:
        return frames
    first = frames[0]
    for frame in frames:
        if frame.position is None or frame.spacing is None:
            raise CaseError(("header", where(frame.path)))
        turned = max(abs(frame.along_row - first.along_row).max(), abs(frame.along_column - first.along_column).max())
        if turned > _ALIKE or abs(np.subtract(frame.spacing, first.spacing or 0)).max() > _ALIKE:
            raise CaseError(("slices differ", f"{name} ({_file(first)} and {_file(frame)}, in direction or spacing)"))
    across, places = normal(first), np.array([frame.position for frame in frames])  # (S, 3)
    order = np.argsort(places @ across, kind="stable")
    ordered, places = [frames[index] for index in order], places[order]
    _check_even(name, ordered, places, places @ across)
    return ordered


def _check_even(
    name: str, frames: Sequence[Frame], places: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]
) -> None:
    """Checks that no two slices lie at one place, and none is missing."""
    gaps = np.diff(heights)
    typical = float(np.median(gaps))
    close = np.flatnonzero(gaps <= max(1e-3, 0.01 * typical))
    if close.size:
        pair = " and ".join(_file(frames[index]) for index in (close[0], close[0] + 1))
        more = f", and {close.size - 1} more pairs" if close.size > 1 else ""
        raise CaseError(("same place", f"{name} ({pair}{more})"))
    even = np.linspace(places[0], places[-1], len(places))  # (S, 3)
    if np.linalg.norm(places - even, axis=1).max() > UNEVEN * typical:
        widest = int(abs(gaps - typical).argmax())
        found = f"{gaps[widest]:.3g} mm instead of {typical:.3g} mm between"
        raise CaseError(("uneven slices", f"{name} ({found} {_file(frames[widest])} and {_file(frames[widest + 1])})"))


def _file(frame: Frame) -> str:
    return frame.path.name if frame.number == 0 else f"frame {frame.number + 1} of {frame.path.name}"


def _tilt(series: Series) -> tuple[tuple[str, str], ...]:
    affine, across = series.affine, normal(series.frames[0])
    if affine is None:
        return ()
    step = (TO_RAS @ affine)[:3, 0]
    degrees = float(np.degrees(np.arccos(np.clip(step @ across / np.linalg.norm(step), -1, 1))))
    return (("tilted", f"{series.name} ({degrees:.3g} degrees)"),) if degrees > TILTED else ()


# --- voxels --------------------------------------------------------------------------------------------------------


def _voxels(series: Series) -> tuple[Array, float, float]:
    """Decodes the pixels, (S, H, W); slices with rescaling of their own are rescaled, float32."""
    files: dict[Path, tuple[Array, Any]] = {}
    scales = {(frame.slope, frame.offset) for frame in series.frames}
    voxels: list[Array] = []
    for frame in series.frames:
        if frame.path not in files:
            files = {frame.path: _file_pixels(frame.path, series.shape)}
        pixels, dataset = files[frame.path]
        values = _bright_on_dark(pixels[frame.number], dataset)
        if "ModalityLUTSequence" in dataset:
            values = _looked_up(values, dataset, frame.path)
        elif len(scales) > 1:
            values = (values * frame.slope + frame.offset).astype(np.float32)
        voxels.append(values)
    slope, offset = scales.pop() if len(scales) == 1 else (1.0, 0.0)
    return np.stack(voxels), slope, offset


def _file_pixels(path: Path, shape: tuple[int, int, int]) -> tuple[Array, Any]:
    pixels, dataset = read_pixels(path)
    if pixels.ndim != 3 or pixels.dtype.kind not in "buif":
        raise CaseError(("volume values", where(path)))
    if pixels.shape[1:] != shape[1:]:
        raise CaseError(("unreadable", f"{where(path)} (pixels incomplete or broken)"))
    return pixels, dataset


def _bright_on_dark(pixels: Array, dataset: Any) -> Array:
    if str(dataset.get("PhotometricInterpretation") or "") != "MONOCHROME1" or pixels.dtype.kind == "f":
        return pixels
    bits, signed = int(dataset.get("BitsStored") or 16), int(dataset.get("PixelRepresentation") or 0)
    return (-1 - pixels if signed else (1 << bits) - 1 - pixels).astype(pixels.dtype)


def _looked_up(pixels: Array, dataset: Any, path: Path) -> Array:
    from pydicom.pixels import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(pixels, dataset), dtype=np.float32)
    except Exception as error:  # a table that is none
        raise CaseError(("header", where(path))) from error


def _unplaced(series: Series, stored: Array, slope: float, offset: float) -> Stack:
    """A single picture that lies nowhere in the patient, such as a radiograph; it is one slice, whatever the axis."""
    spacing = series.frames[0].spacing

    def write(array: Array, target: Path, classes: Sequence[str]) -> Path:
        if array.dtype.kind == "f":
            return write_map(array, None, target)
        return write_segmentation(array, series.frames, classes, target)

    sizes = (1.0, *(spacing or (1.0, 1.0)))
    return Stack(stored, slope, offset, sizes, spacing is not None, None, write, frame=series.frame)
