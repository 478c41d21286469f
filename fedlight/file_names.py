"""Names of the files that cases lie in: which of them are images, which volumes, and what their cases are called."""

from __future__ import annotations

from pathlib import Path

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
"""Endings of images, in lower case; a TIFF may be a stack, too."""

VOLUMES = (".nii", ".nii.gz", ".npy", ".npz")
"""Endings of volumes, in lower case."""

DICOM = (".dcm", ".dicom", ".ima")
"""Endings of DICOM, in lower case; files without one of these are known by what they begin with."""

READ = "PNG, JPEG, TIFF, BMP, GIF, NIfTI, NumPy and DICOM"
"""What is read, for a sentence."""

_OTHERS = frozenset({"dicomdir"})  # DICOM that lists files and is none


def is_read(path: Path) -> bool:
    """Says whether a file is an image or a volume, or a folder the slices of one."""
    return path.name.lower().endswith((*IMAGES, *VOLUMES)) or is_dicom(path)


def is_volume(path: Path) -> bool:
    """Says whether a file is a volume, or a folder the slices of one; a TIFF says only inside whether it is a stack."""
    return path.name.lower().endswith(VOLUMES) or is_dicom(path)


def is_dicom(path: Path) -> bool:
    """Says whether a file is DICOM by its ending or its first bytes, or whether a folder holds such files."""
    if path.is_dir():
        return _holds_dicom(path)
    name = path.name.lower()
    if name in _OTHERS or name.endswith((*IMAGES, *VOLUMES)):
        return False
    return name.endswith(DICOM) or _begins_like_dicom(path)


def dicom_files(folder: Path) -> list[Path]:
    """Returns the DICOM files in a folder, or if there are none, those in the folders below it, by name."""
    here = [path for path in sorted(folder.iterdir()) if _is_dicom_file(path)]
    return here or [path for path in sorted(folder.rglob("*")) if _is_dicom_file(path)]


def _holds_dicom(folder: Path) -> bool:
    try:
        return bool(dicom_files(folder))
    except OSError:  # a folder that may not be looked into
        return False


def _is_dicom_file(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file() and is_dicom(path)


def _begins_like_dicom(path: Path) -> bool:
    if not path.is_file():  # a pipe would wait for somebody to write
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def stem(path: Path) -> str:
    """Returns the name of a file without its ending, which of a compressed file has two parts.

    What has no ending that is known, such as the folder of a series, keeps its whole name.

    >>> stem(Path("a/liver.1.nii.gz")), stem(Path("a/liver.1.png")), stem(Path("a/liver.1"))
    ('liver.1', 'liver.1', 'liver.1')
    """
    name = path.name.lower()
    known = [ending for ending in (*IMAGES, *VOLUMES, *DICOM) if name.endswith(ending)]
    return path.name[: -len(max(known, key=len))] if known else path.name
