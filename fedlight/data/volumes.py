"""Cases that are volumes: files with grey values, with a mask and with a field of view, read slice by slice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedlight.data.image_files import MaskValues
from fedlight.data.source import CaseError, Decoded, Slices, Source
from fedlight.data.stack import Axis, Stack
from fedlight.data.volume_files import open_mask, open_stack
from fedlight.file_names import stem

FULL = 65535
"""The level of the highest intensity; slices have 16 bits."""

TOLERANCE = 0.1
"""Voxels by which mask and image may lie apart, for what headers lose in rounding."""

Limits = tuple[float, float]


@dataclass(frozen=True, slots=True)
class VolumeSource(Source):
    """Reads a volume slice by slice; grey values are brought to 16 bits.

    Attributes:
        image: The volume; its stem is the name of the case.
        mask: Mask volume; None makes everything background.
        fov: Field of view, above 0 inside; None if every voxel counts.
        channels: Channels that are expected; a volume has one.
        values: What the mask means.
        axis: Which way slices are cut.
        limits: Intensities that become 0 and 1; None takes the least and the greatest of the volume.
        known: Whether the files have been checked.
    """

    image: Path
    mask: Path | None
    fov: Path | None
    channels: int
    values: MaskValues
    axis: Axis
    limits: Limits | None
    known: bool = False

    def read(self) -> Decoded:
        """Reads the slice in the middle."""
        slices = self.open()
        return slices.read(len(slices) // 2)

    def open(self) -> Slices:
        """Opens the files; the first time they are checked, and all that is wrong with them is reported at once."""
        name, problems = stem(self.image), []
        if self.channels != 1:
            problems.append(("channels", f"{name} (1 instead of {self.channels})"))
        image, mask, fov = None, None, None
        try:
            image = open_stack(self.image, self.axis)
        except CaseError as error:
            problems += error.problems
        try:
            mask = None if self.mask is None else open_mask(self.mask, self.axis, image, self.values)
        except CaseError as error:
            problems += error.problems
        try:
            fov = None if self.fov is None else open_mask(self.fov, self.axis, image, None)
        except CaseError as error:
            problems += error.problems
        if problems or image is None:
            raise CaseError(*problems)
        if self.known and self.limits is not None:
            return VolumeSlices(self, image, mask, fov, self.limits, ())
        return self._checked(image, mask, fov)

    def _checked(self, image: Stack, mask: Stack | None, fov: Stack | None) -> Slices:
        """Checks what belongs together, looks for the range of intensities and opens the case with it."""
        name = stem(self.image)
        problems = [*_apart(name, "mask", image, mask), *_apart(name, "fov", image, fov)]
        if not problems and fov is not None and not any((fov.values(i) > 0).any() for i in range(len(fov))):
            problems.append(("fov empty", name))
        if problems:
            raise CaseError(*problems)
        low, high, missing = _range(image)
        if missing == 1:
            raise CaseError(("no numbers", name))
        limits = (low, high) if self.limits is None else self.limits
        remarks = [*image.remarks, *(mask.remarks if mask is not None and mask.indices else ())]
        if missing:
            remarks.append(("not a number", f"{name} ({missing:.1%})"))
        return VolumeSlices(replace(self, limits=limits, known=True), image, mask, fov, limits, remarks)


class VolumeSlices(Slices):
    """An open volume.

    Args:
        source: Opens it again.
        image: Its grey values.
        mask: What belongs to which class; None is background.
        fov: Above 0 where a voxel counts; None if all do.
        limits: Intensities that become 0 and 1.
        remarks: Findings that leave it usable.
    """

    def __init__(
        self,
        source: VolumeSource,
        image: Stack,
        mask: Stack | None,
        fov: Stack | None,
        limits: Limits,
        remarks: list[tuple[str, str]] | tuple[()],
    ) -> None:
        self.source: VolumeSource = source
        self.image = image
        self.mask = mask
        self.fov = fov
        self.limits = limits
        self.remarks = remarks
        self.spacing = image.spacing
        self.in_mm = image.in_mm
        self._everywhere = np.ones(image.stored.shape[1:], np.bool_)  # one for all slices that it is true of

    def __len__(self) -> int:
        return len(self.image)

    def read(self, index: int) -> Decoded:
        """Reads a slice; voxels that are no number do not count."""
        values = self.image.values(index)
        valid = np.isfinite(values)
        if self.fov is not None:
            valid &= self.fov.values(index) > 0
        return Decoded(
            self._levels(values)[..., None], self._classes(index), self._everywhere if valid.all() else valid
        )

    def _levels(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
        low, high = self.limits
        share = np.nan_to_num((values - low) / (high - low if high > low else 1), nan=0, posinf=1, neginf=0)
        return (share.clip(0, 1) * FULL).round().astype(np.uint16)

    def _classes(self, index: int) -> npt.NDArray[np.uint8]:
        if self.mask is None:
            return np.zeros(self.image.stored.shape[1:], np.uint8)
        if self.mask.indices:
            return np.asarray(self.mask.stored[index], np.uint8)
        values, name = self.mask.values(index), stem(self.source.image)
        whole = np.floor(np.nan_to_num(values, nan=-1)) if self.source.values.threshold is not None else values
        levels = np.nan_to_num(whole, nan=0).clip(0, FULL).astype(np.uint16)
        if not np.array_equal(levels, whole) and self.source.values.threshold is None:
            raise CaseError(("mask values", f"{name} (negative, fractional or not a number)"))
        return self.source.values.decode(name, levels)


def _range(image: Stack) -> tuple[float, float, float]:
    """Returns the least and the greatest intensity, and the share of voxels that are no number."""
    low, high, finite, voxels = np.inf, -np.inf, 0, image.stored.size
    for index in range(len(image)):
        values = image.values(index)
        numbers = values[np.isfinite(values)]
        finite += numbers.size
        if numbers.size:
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    return low, high, 1 - finite / voxels


def _apart(name: str, what: str, image: Stack, other: Stack | None) -> list[tuple[str, str]]:
    """Says how a mask or field of view does not fit its volume."""
    if other is None:
        return []
    if (image.turn is None) != (other.turn is None):
        return [("other format", f"{name} ({what})")]
    if image.stored.shape != other.stored.shape:
        found, wanted = ("x".join(map(str, each.stored.shape)) for each in (other, image))
        return [(f"{what} size", f"{name} ({found} instead of {wanted})")]
    distance = _distance(image, other)
    return [("elsewhere", f"{name} ({what}, {distance:.3g} mm)")] if distance > TOLERANCE * min(image.spacing) else []


def _distance(image: Stack, other: Stack) -> float:
    """Returns how far the corners of two volumes of one shape lie apart at most, in mm."""
    if image.turn is None or other.turn is None:
        return 0.0
    difference = image.turn.seen - other.turn.seen
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in image.stored.shape])).reshape(3, -1)  # (3, 8)
    return float(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max())
