"""Volumes in files, seen as stacks of slices and written back on the grid of the file: NIfTI and NumPy, and the others.

A NumPy array is read as (z, y, x), first row on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlight.data.dicom_segmentation import is_segmentation, open_segmentation
from fedlight.data.dicom_series import open_series
from fedlight.data.image_files import MaskValues
from fedlight.data.source import CaseError
from fedlight.data.stack import PLAIN_CUTS, Array, Axis, Stack, Turn, three, unsliced
from fedlight.data.tiff_stacks import is_stack, open_tiff
from fedlight.file_names import IMAGES, is_dicom, is_volume, stem

_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


def open_stack(path: Path, axis: Axis) -> Stack:
    """Opens a volume without reading its voxels, unless it is compressed.

    Raises:
        CaseError: If the file cannot be read, or is no volume of grey values.
    """
    if not holds_volume(path):
        raise CaseError(("other format", f"{path.parent.name}/{path.name}"))
    with _readable(path):
        return _opener(path)(path, axis)


def open_mask(path: Path, axis: Axis, volume: Stack | None, meaning: MaskValues | None) -> Stack:
    """Opens what belongs to a volume: a volume itself, or a DICOM-SEG, which is put on the grid of the other.

    Args:
        path: The file.
        axis: Which way it is cut.
        volume: What it belongs to; None if that cannot be read, which somebody else says.
        meaning: What a mask means; None for a field of view.

    Raises:
        CaseError: If it cannot be read, or does not fit the volume.
    """
    if not is_segmentation(path):
        return open_stack(path, axis)
    if volume is None:
        raise CaseError  # nothing can be said of it beyond what is said of the volume
    with _readable(path):
        return open_segmentation(path, volume, meaning)


def holds_volume(path: Path) -> bool:
    """Says whether a file is a volume, for which a TIFF is looked into, or a folder the slices of one."""
    return is_volume(path) or is_stack(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what nibabel, zlib and others raise on broken files into what it means: "unreadable"."""
    try:
        yield
    except CaseError:
        raise
    except Exception as error:
        said = "" if is_dicom(path) else " ".join(str(error).split())  # pydicom quotes values of the file
        raise CaseError(("unreadable", f"{path.parent.name}/{path.name} ({said or type(error).__name__})")) from error


def _opener(path: Path) -> Callable[[Path, Axis], Stack]:
    name = path.name.lower()
    if is_dicom(path):
        return open_series
    if name.endswith(IMAGES):
        return open_tiff
    return _open_nifti if name.endswith((".nii", ".nii.gz")) else _open_numpy


# --- NIfTI ---------------------------------------------------------------------------------------------------------


def _open_nifti(path: Path, axis: Axis) -> Stack:
    nibabel: Any = _nibabel()
    image = nibabel.load(path)
    _check_type(path, image.get_data_dtype())
    shape = three(stem(path), image.shape)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise CaseError(("header", f"{path.parent.name}/{path.name}"))
    turn = Turn(affine, shape, axis)
    stored = turn.forth(image.dataobj.get_unscaled().reshape(shape))
    slope, offset = float(image.dataobj.slope), float(image.dataobj.inter)

    def write(array: Array, target: Path, classes: Sequence[str]) -> Path:
        voxels = np.ascontiguousarray(turn.back(array))
        voxels = voxels.reshape(image.shape) if voxels.ndim == 3 else voxels  # a plane, or axes of length 1
        header = image.header.copy()
        header.extensions.clear()  # they describe the image, often with what DICOM said of the patient
        header.set_data_dtype(voxels.dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        for name in {"descrip", "aux_file", "db_name"} & set(header.keys()):  # NIfTI-2 has two of them
            header[name] = b""
        target = target.with_name(f"{target.name}.nii.gz")
        nibabel.save(type(image)(voxels, image.affine, header), target)
        return target

    return Stack(stored, slope, offset, turn.spacing, True, turn, write)


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
    array, order = loaded.reshape(three(stem(path), shape)), PLAIN_CUTS[axis]
    z, y, x = _sizes(path, spacing)[list(order)]

    def write(array: Array, target: Path, classes: Sequence[str]) -> Path:
        whole = unsliced(array, order).reshape(*loaded.shape, *array.shape[3:])
        target = target.with_name(f"{target.name}.{'npy' if spacing is None else 'npz'}")
        if spacing is None:
            np.save(target, whole)
        else:
            np.savez_compressed(target, array=whole, spacing=spacing)
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


# --- what cannot be used -------------------------------------------------------------------------------------------


def _check_type(path: Path, dtype: Any) -> None:
    if np.dtype(dtype).kind not in "buif":
        raise CaseError(("volume values", f"{path.parent.name}/{path.name}"))
