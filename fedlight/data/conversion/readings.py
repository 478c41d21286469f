"""Reads one file of a data set as it is distributed: pictures, grey levels, raw pixels, voxels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedlight.data.images import open_image, pixels_of
from fedlight.data.source import CaseError

_LOSSY = (".jpg", ".jpeg")  # a level of 1 is noise in them


class UnusableError(ValueError):
    """A case that cannot be converted; the message names the file and what is wrong with it."""


class Grid(NamedTuple):
    """What was read."""

    values: npt.NDArray[Any]  # (H, W) or (H, W, C) of a picture, (X, Y, Z) of a volume
    affine: npt.NDArray[np.float64] | None = None  # (4, 4), voxels of a volume to space; None for pictures
    unit: str = "unknown"  # that of the affine, as NIfTI names it


class Reading(ABC):
    """Reads an image or a mask of a case."""

    @property
    @abstractmethod
    def paths(self) -> tuple[Path, ...]:
        """The files that are read."""

    @abstractmethod
    def read(self) -> Grid:
        """Reads them.

        Raises:
            UnusableError: If they cannot be read, or are not what they should be.
        """


@dataclass(frozen=True, slots=True)
class Picture(Reading):
    """A picture, (H, W, C), uint8 or, of a grey one, uint16.

    Attributes:
        path: The file.
        channels: 3 for colour, 1 for grey. A colour picture becomes grey by its luminance.
    """

    path: Path
    channels: int = 3

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self) -> Grid:
        """Reads the first page or frame, turned as its EXIF orientation says, without transparency."""
        try:
            image = open_image(self.path)
            pixels = pixels_of(image, self.path)  # (H, W, 1 or 3)
        except CaseError as error:
            raise UnusableError(f"{self.path} cannot be read as an image ({error.problems[0][1]})") from error
        if pixels.shape[2] == self.channels:
            return Grid(pixels)
        if self.channels == 1:
            return Grid(np.array(image.convert("L"))[..., None])
        return Grid(np.repeat(pixels, 3, axis=2))


@dataclass(frozen=True, slots=True)
class Levels(Reading):
    """The grey levels of a mask, (H, W), uint8; palettes and colours count by their luminance, 0 and 1 as 0 and 255.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self) -> Grid:
        """Reads the first page or frame; of 16 bits, the upper 8 count where there are any."""
        values = Picture(self.path, channels=1).read().values[..., 0]  # (H, W)
        if values.max() == 1 and self.path.suffix.lower() not in _LOSSY:
            values = values * 255
        return Grid((values >> 8 if values.max() > 255 else values).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Raw(Reading):
    """A file of nothing but big-endian 16-bit numbers that say how dark a pixel is, (H, W, 1), uint16.

    Pixels are averaged two by two, turned to light ones and brought to the full range of 16 bits.

    Attributes:
        path: The file.
        side: Pixels of a side of the square that it holds.
        bits: That are used.
    """

    path: Path
    side: int
    bits: int

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self) -> Grid:
        """Reads the file and halves its sides."""
        values = np.fromfile(self.path, dtype=">u2")
        if values.size != self.side**2:
            raise UnusableError(f"{self.path} has {values.size} pixels, and {self.side} x {self.side} were expected")
        half, most = self.side // 2, 2**self.bits - 1
        means = values.reshape(half, 2, half, 2).astype(np.float64).mean((1, 3))
        return Grid(((most - means.clip(0, most)) / most * 65535).round().astype(np.uint16)[..., None])


@dataclass(frozen=True, slots=True)
class Voxels(Reading):
    """A NIfTI volume, or one moment of a sequence of volumes, (X, Y, Z).

    Attributes:
        path: The file.
        frame: Which volume along the fourth axis, from 0; None where there is only one.
    """

    path: Path
    frame: int | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self) -> Grid:
        """Reads the voxels, in the type that they are stored in, or as float32 where the header scales them."""
        import nibabel  # a quarter of a second that images do not need

        # nibabel and zlib raise what they like on broken files: every one of it means "unreadable"
        try:
            image: Any = nibabel.load(self.path)
            values = np.asanyarray(image.dataobj if self.frame is None else image.dataobj[..., self.frame])
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnusableError(f"{self.path} cannot be read as a volume ({reason})") from error
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim != 3 or values.dtype.kind not in "buif":
            shape = "x".join(map(str, values.shape))
            raise UnusableError(f"{self.path} is no single volume of grey values ({shape}, {values.dtype})")
        return Grid(_narrow(values), np.array(image.affine, np.float64), image.header.get_xyzt_units()[0])


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Takes 64-bit numbers, which nibabel makes of scaled ones, to 32 bits; booleans to numbers."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype.itemsize > 4:
        return values.astype(np.int32)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values
