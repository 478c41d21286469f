"""A volume as a stack of slices, turned as on a radiologist's screen, and the way back to the grid of its file.

On a screen, axial and coronal slices are seen from the feet and from the front, the patient's right on the left;
sagittal ones have the front on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fedlight.data.source import CaseError

Axis = Literal["axial", "coronal", "sagittal"]
Array: TypeAlias = npt.NDArray[Any]
Affine: TypeAlias = npt.NDArray[np.float64]

LARGEST = 2**31
"""Voxels beyond which a volume is refused before it fills the memory."""

PLAIN_CUTS = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""Slices, rows and columns of an array (z, y, x) that does not say where it lies."""

_SCREEN = ("L", "P", "I")  # where the axes of an array point after it was turned
_CUTS = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}  # slices, rows, columns of (L, P, I)


@dataclass(frozen=True, slots=True)
class Turn:
    """How the array of a file is turned to the closest directions of a screen and cut into slices.

    Attributes:
        affine: (4, 4), index in the file to mm, in which x goes left to right, y back to front, z feet to head.
        shape: Of the array in the file, three axes.
        axis: Which way it is cut.
    """

    affine: Affine
    shape: tuple[int, int, int]
    axis: Axis

    @property
    def seen(self) -> Affine:
        """Slice, row and column to mm, (4, 4)."""
        nibabel = _nibabel()
        turned: Affine = self.affine @ nibabel.orientations.inv_ornt_aff(self._to_screen(), self.shape)
        return turned[:, [*_CUTS[self.axis], 3]]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(z, y, x), z across slices, in mm."""
        z, y, x = _nibabel().affines.voxel_sizes(self.seen)
        return float(z), float(y), float(x)

    def forth(self, array: Array) -> Array:
        """Turns the array of a file into slices, (S, H, W); a view."""
        turned: Array = _nibabel().orientations.apply_orientation(array, self._to_screen())
        return turned.transpose(_CUTS[self.axis])

    def back(self, slices: Array) -> Array:
        """Turns slices, (S, H, W) or (S, H, W, K), into the array of a file; further axes stay last."""
        orientations, whole = _nibabel().orientations, unsliced(slices, _CUTS[self.axis])
        away = orientations.ornt_transform(orientations.axcodes2ornt(_SCREEN), orientations.io_orientation(self.affine))
        turned: Array = orientations.apply_orientation(whole, away)
        return turned

    def _to_screen(self) -> Array:
        orientations = _nibabel().orientations
        own, screen = orientations.io_orientation(self.affine), orientations.axcodes2ornt(_SCREEN)
        turn: Array = orientations.ornt_transform(own, screen)
        return turn


@dataclass(frozen=True, slots=True)
class Stack:
    """A volume in a file, slice by slice.

    Attributes:
        stored: (S, H, W), as stored: a view of the file where that is not compressed.
        slope: Factor of what is stored.
        offset: Added to it then.
        spacing: (z, y, x), z across slices, in mm; 1 where unknown.
        in_mm: Whether the spacing is known.
        turn: From the file to slices; None where the file does not say where its voxels lie.
        write: Writes a map (S, H, W) or (S, H, W, K) on the grid of the file, to a path without ending, with the names
            of the classes.
        frame: Of a DICOM series, what tells whether positions of another one mean the same; empty if unknown.
        indices: Whether values are class indices already.
        remarks: Pairs of a kind of finding and its detail, of a file that can be used all the same.
    """

    stored: Array
    slope: float
    offset: float
    spacing: tuple[float, float, float]
    in_mm: bool
    turn: Turn | None
    write: Callable[[Array, Path, Sequence[str]], Path]
    frame: str = ""
    indices: bool = False
    remarks: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.stored)

    def values(self, index: int) -> npt.NDArray[np.float64]:
        """Returns a slice, (H, W)."""
        # what lies in memory column by column is copied faster so than after the arithmetic
        return np.array(self.stored[index], dtype=np.float64) * self.slope + self.offset


def unsliced(array: Array, order: tuple[int, int, int]) -> Array:
    """Undoes a transposition of the first three axes; further ones stay."""
    return array.transpose(*np.argsort(order), *range(3, array.ndim))


def three(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns the shape of a volume; trailing axes of length 1 are none, and a plane is a volume of one slice.

    Raises:
        CaseError: If it has another number of axes, or too many voxels; ``name`` is for messages.
    """
    if len(shape) < 2 or any(length != 1 for length in shape[3:]) or min(shape) < 1:
        raise CaseError(("not a volume", f"{name} ({'x'.join(map(str, shape))})"))
    if np.prod(shape, dtype=np.float64) > LARGEST:
        raise CaseError(("too large", f"{name} ({'x'.join(map(str, shape))})"))
    first, second, third = (*shape, 1)[:3]
    return first, second, third


def _nibabel() -> Any:
    import nibabel  # a quarter of a second that images do not need

    return nibabel
