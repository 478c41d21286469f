"""What is wrong with data, in sentences: the value, the rule and the way out, one sentence for every kind and site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedlight.file_names import READ

Severity = Literal["error", "warning"]

SHOWN = 5
"""Cases that a sentence names before it says "and N more"."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the data.

    Attributes:
        severity: An "error" stops ``fit``; a "warning" is for a person to decide.
        site: The institution it is about; empty for the whole root.
        text: The sentence.
    """

    severity: Severity
    site: str
    text: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding about single cases; all cases of a site with it share one sentence."""

    severity: Severity
    problem: str
    remedy: str


KINDS = {
    "unreadable": Kind("error", "cannot be read as an image", "Replace or remove the file."),
    "mask missing": Kind(
        "error",
        "no mask for an image",
        "A mask has the stem of its image and lies in masks/: add it or remove the image.",
    ),
    "loose slices": Kind(
        "error",
        "no mask for a DICOM file",
        "If they are slices, put those of a series into a folder of its own in images/, called like the mask.",
    ),
    "image missing": Kind(
        "error",
        "no image for a mask",
        "An image has the stem of its mask and lies in images/: add it or remove the mask.",
    ),
    "fov missing": Kind("error", "no field of view for an image", "Give every image of the site one in fov/, or none."),
    "stem taken": Kind("error", "two files with one stem", "The stem is the name of a case: rename or remove one."),
    "ignored": Kind("warning", "not an image format that is read", f"{READ} are: convert or remove it."),
    "mask size": Kind("error", "mask and image differ in size", "Save the mask on the grid of its image."),
    "fov size": Kind("error", "field of view and image differ in size", "Save it on the grid of its image."),
    "fov empty": Kind("error", "no pixel inside the field of view", "Pixels above 0 are inside: repair or remove it."),
    "channels": Kind(
        "error", "wrong number of channels", "Convert the images, or set data.channels to what they have."
    ),
    "mask colour": Kind("error", "mask in colour", "A mask holds one number per pixel: save it as a grey image."),
    "mask values": Kind(
        "error",
        "mask with values that belong to no class",
        "Map them with data.mask_values (pixel value: class index), or set data.mask_threshold for soft masks.",
    ),
    "patch size": Kind("error", "image smaller than a patch", "Set data.patch_size to at most the smallest image."),
    "other format": Kind(
        "error",
        "volume and mask or field of view in different formats",
        "Save all of them as NIfTI, or as NumPy; a DICOM series takes DICOM-SEG and NIfTI.",
    ),
    "elsewhere": Kind(
        "error",
        "mask or field of view that lies elsewhere than its volume",
        "Resample it onto its volume, or copy the affine of the volume if only its header is wrong.",
    ),
    "frame of reference": Kind(
        "error",
        "DICOM-SEG of another frame of reference than its images",
        "Take the segmentation of this series, or save the mask as NIfTI on its grid.",
    ),
    "segments overlap": Kind(
        "error",
        "DICOM-SEG whose segments overlap",
        "A voxel has one class: make the segments exclusive, or give them one class with data.mask_values.",
    ),
    "segments by number": Kind(
        "warning",
        "DICOM-SEG whose labels are no names of classes, so that its segments' numbers count",
        "Look whether that is right, call data.classes like the labels, or set data.mask_values.",
    ),
    "segmentation": Kind("error", "DICOM-SEG among the images", "Move it into masks/, with the name of its series."),
    "two series": Kind(
        "error",
        "several series in one folder",
        "A folder is one case: give each series a folder of its own, and keep those that have a mask.",
    ),
    "same place": Kind(
        "error",
        "slices at one place",
        "Copies, phases and echoes are no slices: keep one of them, or make cases of their own of the others.",
    ),
    "uneven slices": Kind(
        "error",
        "slices that are missing or not evenly spaced",
        "Export the series again as a whole, or resample it to even distances.",
    ),
    "slices differ": Kind(
        "error", "slices that are not on one grid", "Leave out scouts and other views: one series has one grid."
    ),
    "tilted": Kind(
        "warning",
        "slices that are shifted against each other, as by a tilted gantry",
        "They are used as they are: resample the series if distances in 3-D matter.",
    ),
    "no pixels": Kind(
        "error",
        "DICOM without an image",
        "Remove reports, plans and the like, which are no slices; copy anew what was cut off.",
    ),
    "decoder": Kind(
        "error",
        "compressed DICOM whose decoder is missing",
        "Install one: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or python-gdcm.",
    ),
    "dicom package": Kind("error", "DICOM needs pydicom", "Get it with: pip install 'fedlight[dicom]'."),
    "spacing unknown": Kind(
        "warning",
        "stack of pages that does not say how large its voxels are",
        "They count as 1 x 1 x 1, and distances are in pixels: save it with ImageJ's spacing and unit, or as NIfTI.",
    ),
    "not a volume": Kind(
        "error", "file that is not one volume", "Save one volume a file, of three axes, each with its mask."
    ),
    "volume values": Kind("error", "volume in colour or of complex numbers", "Save one grey value a voxel."),
    "too large": Kind("error", "volume of more than two billion voxels", "Cut it to what matters, or resample it."),
    "header": Kind("error", "header that does not say where voxels lie", "Repair affine or spacing of the file."),
    "no numbers": Kind("error", "volume in which no voxel is a number", "Replace or remove the file."),
    "not a number": Kind(
        "warning", "volume with voxels that are no numbers", "They count for nothing: look whether that is right."
    ),
    "spacing missing": Kind(
        "error",
        "no spacing to resample from",
        "Save the case as NIfTI, or in a .npz file with its spacing, or leave out data.spacing.",
    ),
    "group": Kind(
        "error", "name that the group pattern does not match", "Change data.group so that it matches every case."
    ),
    "mask empty": Kind("warning", "mask without foreground", "Look whether that is true."),
}


@dataclass(slots=True)
class Findings:
    """Collects findings; those about cases are joined into one sentence per site and kind."""

    whole: list[Finding] = field(default_factory=list)
    by_case: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def error(self, text: str, site: str = "") -> None:
        """Adds a sentence that stops ``fit``."""
        self.whole.append(Finding("error", site, text))

    def warning(self, text: str, site: str = "") -> None:
        """Adds a sentence for a person to decide about."""
        self.whole.append(Finding("warning", site, text))

    def case(self, kind: str, site: str, detail: str) -> None:
        """Adds a case to a sentence; ``kind`` is one of ``KINDS``, ``detail`` its name and what was found."""
        self.by_case.setdefault((site, kind), []).append(detail)

    def sentences(self) -> tuple[Finding, ...]:
        """Returns everything found, errors first."""
        cases = [_join(site, KINDS[kind], details) for (site, kind), details in self.by_case.items()]
        return tuple(sorted([*self.whole, *cases], key=lambda finding: (finding.severity, finding.site)))


def _join(site: str, kind: Kind, details: Sequence[str]) -> Finding:
    return Finding(kind.severity, site, f"site {site}: {kind.problem}: {listing(details)}. {kind.remedy}")


def listing(items: Sequence[str], shown: int = SHOWN) -> str:
    """Joins names for a sentence, the first few and how many more.

    >>> listing(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    more = len(items) - shown
    return f"{', '.join(items[:shown])} and {more} more" if more > 0 else ", ".join(items)
