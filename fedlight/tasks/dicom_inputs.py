"""Which of the files that are found in folders are slices of one DICOM series: they are one input, their folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedlight.file_names import is_dicom


def with_series(files: Sequence[Path]) -> list[Path]:
    """Returns files in their order, with a folder in place of the slices that it holds.

    A file of many frames, or one that lies nowhere in the patient, such as a radiograph, is an input of its own. The
    first file of a folder speaks for all of it.
    """
    slices: dict[Path, bool] = {}  # folder -> whether it holds a series
    found: dict[Path, None] = {}
    for path in files:
        dicom = is_dicom(path)
        if dicom and path.parent not in slices:
            slices[path.parent] = _is_slice(path)
        found[_named(path.parent) if dicom and slices[path.parent] else path] = None
    return list(found)


def _is_slice(path: Path) -> bool:
    """Whether a file is one slice of a series; True for what cannot be read, so that its folder is reported once."""
    try:
        import pydicom

        dataset: Any = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["NumberOfFrames", "ImagePositionPatient"]
        )
        return "ImagePositionPatient" in dataset and int(dataset.get("NumberOfFrames") or 1) == 1
    except Exception:  # no pydicom, or no DICOM: whoever reads it says so
        return True


def _named(folder: Path) -> Path:
    return folder if folder.name else folder.resolve()
