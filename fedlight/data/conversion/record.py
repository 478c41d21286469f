"""A case of a data set as it was found in somebody's copy, before it is converted."""

from __future__ import annotations

from dataclasses import dataclass

from fedlight.data.conversion.readings import Reading
from fedlight.data.federated import Stage

NO_MASK = "no mask in this copy"
"""The usual reason for which an image is no case."""


@dataclass(frozen=True, slots=True)
class Record:
    """A case with an image and a mask.

    Attributes:
        name: Of the case, unique at its site; the stem of the files that are written.
        group: The patient, or whatever else must stay in one split, such as a video.
        image: Reads the image, (H, W, C), or the volume.
        mask: Reads the mask as class indices, uint8.
        fov: Reads the field of view, above 0 inside; None if every pixel counts.
        second: Reads the mask of a second annotator, if there is one.
        split: Where the owners of the data set put the case, if they say so.
    """

    name: str
    group: str
    image: Reading
    mask: Reading
    fov: Reading | None = None
    second: Reading | None = None
    split: Stage | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image of the data set that is no case, and why.

    Attributes:
        name: Of the image.
        reason: Such as "no mask in the distribution"; images with one reason share a sentence.
    """

    name: str
    reason: str
