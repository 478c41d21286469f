"""Names of the files that cases lie in: which of them are images, which volumes, and what their cases are called."""

from __future__ import annotations

from pathlib import Path

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
"""Endings of images, in lower case."""

VOLUMES = (".nii", ".nii.gz", ".npy", ".npz")
"""Endings of volumes, in lower case."""

READ = "PNG, JPEG, TIFF, BMP, GIF, NIfTI and NumPy"
"""What is read, for a sentence."""


def is_read(path: Path) -> bool:
    """Says whether a file is an image or a volume by its name."""
    return path.name.lower().endswith((*IMAGES, *VOLUMES))


def is_volume(path: Path) -> bool:
    """Says whether a file is a volume by its name."""
    return path.name.lower().endswith(VOLUMES)


def stem(path: Path) -> str:
    """Returns the name of a file without its ending, which of a compressed file has two parts.

    >>> stem(Path("a/liver.1.nii.gz")), stem(Path("a/liver.1.png"))
    ('liver.1', 'liver.1')
    """
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
