"""Volumes in files, NIfTI and NumPy, seen as stacks of slices and written back on the grid of the file.

A slice looks as on a radiologist's screen: axial and coronal ones from the feet and from the front, the patient's right
on the left; sagittal ones with the front on the left. A NumPy array is read as (z, y, x), first row on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fedlight.data.source import CaseError
from fedlight.file_names import stem

Axis = Literal["axial", "coronal", "sagittal"]
Array: TypeAlias = npt.NDArray[Any]

LARGEST = 2**31
"""Voxels beyond which a volume is refused before it fills the memory."""

_SCREEN = ("L", "P", "I")  # where the axes of a NIfTI array point after it was turned
_NIFTI_AXES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}  # slices, rows, columns of (L, P, I)
_NUMPY_AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}  # slices, rows, columns of (z, y, x)
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, slots=True)
class Stack:
    """A volume in a file, slice by slice.

    Attributes:
        stored: (S, H, W), as stored: a view of the file where that is not compressed.
        slope: Factor of what is stored.
        offset: Added to it then.
        spacing: (z, y, x), z across slices, in mm; 1 where unknown.
        in_mm: Whether the spacing is known.
        affine: (4, 4), slice, row and column to mm; None where the file has none.
        write: Writes a map (S, H, W) or (S, H, W, K) on the grid of the file, to a path without ending.
    """

    stored: Array
    slope: float
    offset: float
    spacing: tuple[float, float, float]
    in_mm: bool
    affine: npt.NDArray[np.float64] | None
    write: Callable[[Array, Path], Path]

    def __len__(self) -> int:
        return len(self.stored)

    def values(self, index: int) -> npt.NDArray[np.float64]:
        """Returns a slice, (H, W)."""
        # what lies in memory column by column is copied faster so than after the arithmetic
        return np.array(self.stored[index], dtype=np.float64) * self.slope + self.offset


def open_stack(path: Path, axis: Axis) -> Stack:
    """Opens a volume without reading its voxels, unless it is compressed.

    Raises:
        CaseError: If the file cannot be read, or is no volume of grey values.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz", ".npy", ".npz")):
        raise CaseError(("other format", f"{path.parent.name}/{path.name}"))
    try:
        return _open_nifti(path, axis) if name.endswith((".nii", ".nii.gz")) else _open_numpy(path, axis)
    except CaseError:
        raise
    # nibabel and zlib raise what they like on broken files: every one of it means "unreadable"
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CaseError(("unreadable", f"{path.parent.name}/{path.name} ({reason})")) from error


# --- NIfTI ---------------------------------------------------------------------------------------------------------


def _open_nifti(path: Path, axis: Axis) -> Stack:
    nibabel: Any = _nibabel()
    image = nibabel.load(path)
    _check_type(path, image.get_data_dtype())
    shape = _three(path, image.shape)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise CaseError(("header", f"{path.parent.name}/{path.name}"))
    own, screen = nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(_SCREEN)
    turn, back = (nibabel.orientations.ornt_transform(*pair) for pair in ((own, screen), (screen, own)))
    order = _NIFTI_AXES[axis]
    seen = (affine @ nibabel.orientations.inv_ornt_aff(turn, shape))[:, [*order, 3]]  # slice, row, column to mm
    z, y, x = nibabel.affines.voxel_sizes(seen)
    stored = nibabel.orientations.apply_orientation(image.dataobj.get_unscaled().reshape(shape), turn)
    slope, offset = float(image.dataobj.slope), float(image.dataobj.inter)

    def write(array: Array, target: Path) -> Path:
        voxels = np.ascontiguousarray(nibabel.orientations.apply_orientation(_unsliced(array, order), back))
        header = image.header.copy()
        header.extensions.clear()  # they describe the image, often with what DICOM said of the patient
        header.set_data_dtype(voxels.dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        header["descrip"], header["aux_file"], header["db_name"] = b"", b"", b""
        target = target.with_name(f"{target.name}.nii.gz")
        nibabel.save(type(image)(voxels, image.affine, header), target)
        return target

    return Stack(stored.transpose(order), slope, offset, (float(z), float(y), float(x)), True, seen, write)


def _nibabel() -> Any:
    import nibabel  # a quarter of a second that images do not need

    return nibabel


# --- NumPy ---------------------------------------------------------------------------------------------------------


def _open_numpy(path: Path, axis: Axis) -> Stack:
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    spacing = None
    if not isinstance(loaded, np.ndarray):
        with loaded:
            spacing = loaded["spacing"] if "spacing" in loaded.files else None
            loaded = _only(path, {name: loaded[name] for name in loaded.files if name != "spacing"})
    _check_type(path, loaded.dtype)
    shape = (1, *loaded.shape) if loaded.ndim == 2 else loaded.shape
    array, order = loaded.reshape(_three(path, shape)), _NUMPY_AXES[axis]
    z, y, x = _sizes(path, spacing)[list(order)]

    def write(array: Array, target: Path) -> Path:
        target = target.with_name(f"{target.name}.npy")
        np.save(target, _unsliced(array, order).reshape(*loaded.shape, *array.shape[3:]))
        return target

    known = spacing is not None
    return Stack(array.transpose(order), 1.0, 0.0, (float(z), float(y), float(x)), known, None, write)


def _only(path: Path, arrays: dict[str, Array]) -> Array:
    if len(arrays) != 1:
        names = ", ".join(arrays) or "nothing"
        detail = f"{path.parent.name}/{path.name} (it holds {names}; one array is expected, and perhaps its spacing)"
        raise CaseError(("unreadable", detail))
    return next(iter(arrays.values()))


def _sizes(path: Path, spacing: Array | None) -> npt.NDArray[np.float64]:
    if spacing is None:
        return np.ones(3)
    sizes = np.asarray(spacing, dtype=np.float64).reshape(-1)
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or sizes.min() <= 0:
        raise CaseError(("header", f"{path.parent.name}/{path.name}"))
    return sizes


def _unsliced(array: Array, order: tuple[int, int, int]) -> Array:
    """Undoes a transposition of the first three axes; further ones stay."""
    return array.transpose(*np.argsort(order), *range(3, array.ndim))


# --- what cannot be used -------------------------------------------------------------------------------------------


def _check_type(path: Path, dtype: Any) -> None:
    if np.dtype(dtype).kind not in "buif":
        raise CaseError(("volume values", f"{path.parent.name}/{path.name}"))


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns the shape of a volume; trailing axes of length 1 are none, and a plane is a volume of one slice."""
    if len(shape) < 2 or any(length != 1 for length in shape[3:]) or min(shape) < 1:
        raise CaseError(("not a volume", f"{stem(path)} ({'x'.join(map(str, shape))})"))
    if np.prod(shape, dtype=np.float64) > LARGEST:
        raise CaseError(("too large", f"{stem(path)} ({'x'.join(map(str, shape))})"))
    first, second, third = (*shape, 1)[:3]
    return first, second, third
