"""Small sites of volumes on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

AFFINE = np.array([[0.8, 0, 0, -8.0], [0, 0.8, 0, 4.0], [0, 0, 3.0, -20.0], [0, 0, 0, 1]])
"""RAS, 0.8 x 0.8 x 3 mm."""


def grey(seed: int, shape: tuple[int, int, int] = (12, 20, 16)) -> npt.NDArray[np.int16]:
    """Noise between -1000 and 1000, as of a CT, brighter where ``ball`` is foreground."""
    noise = np.random.default_rng(seed).integers(-200, 200, shape)
    return (noise - 800 + 1600 * ball(shape).astype(np.int16)).astype(np.int16)


def ball(shape: tuple[int, int, int] = (12, 20, 16)) -> npt.NDArray[np.uint8]:
    """An ellipsoid around the middle, in the middle half of every axis."""
    axes = np.meshgrid(*[np.linspace(-2, 2, length) for length in shape], indexing="ij")
    inside: npt.NDArray[np.uint8] = (np.square(axes).sum(0) < 1).astype(np.uint8)
    return inside


def save_nifti(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE) -> Path:
    """Writes a volume."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def volume_site(root: Path, site: str, cases: int = 6, suffix: str = ".nii.gz") -> Path:
    """Writes a site of volumes of 12 x 20 x 16 voxels with balls, each brighter than what is around it."""
    for index in range(cases):
        seed = sum(site.encode()) * 1000 + index
        save_nifti(root / site / "images" / f"c{index}{suffix}", grey(seed))
        save_nifti(root / site / "masks" / f"c{index}{suffix}", ball())
    return root
