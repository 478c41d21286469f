"""What was read as bytes of the files that are written: PNG for pictures, NIfTI for volumes; equal bytes each time."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fedlight.data.conversion.readings import Grid, UnusableError


def png(values: npt.NDArray[Any]) -> bytes:
    """Encodes (H, W) or (H, W, 1), uint8 or uint16, or (H, W, 3), uint8.

    Raises:
        UnusableError: If it is none of these.
    """
    plane = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if plane.dtype not in (np.uint8, np.uint16) or (plane.ndim == 3 and plane.dtype != np.uint8):
        raise UnusableError(f"an image of {plane.dtype} and shape {'x'.join(map(str, plane.shape))} fits into no PNG")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(file, format="PNG")
    return file.getvalue()


def nifti(grid: Grid) -> bytes:
    """Encodes a volume as compressed NIfTI with its affine, and without anything else of the original header."""
    import nibabel

    image: Any = nibabel.Nifti1Image(grid.values, grid.affine)
    image.header.set_xyzt_units(grid.unit)
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
