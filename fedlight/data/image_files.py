"""Cases that lie in files: an image, its mask and its field of view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedlight.data.findings import listing
from fedlight.data.images import read_image, read_values
from fedlight.data.preparation import full_range
from fedlight.data.source import CaseError, Decoded, Pixels, Source


@dataclass(frozen=True, slots=True)
class MaskValues:
    """What the pixel values of a mask mean.

    Attributes:
        classes: Pixel value -> class index.
        threshold: If given, values from here on are class 1 and the others background; ``classes`` is not used.
        names: Of the classes, by which a mask may call what it shows; empty if only values count.
    """

    classes: Mapping[int, int]
    threshold: int | None
    names: tuple[str, ...] = ()

    def decode(self, name: str, values: Pixels) -> npt.NDArray[np.uint8]:
        """Turns the (H, W) pixel values of a mask into class indices.

        Raises:
            CaseError: If a value belongs to no class.
        """
        if self.threshold is not None:
            return (values >= self.threshold).astype(np.uint8)
        table = np.full(full_range(values) + 1, -1, dtype=np.int16)
        for value, index in self.classes.items():
            if 0 <= value < len(table):
                table[value] = index
        decoded = table[values]  # (H, W)
        if (unmapped := np.unique(values[decoded < 0])).size:
            raise CaseError(("mask values", f"{name} ({listing([str(value) for value in unmapped])})"))
        return decoded.astype(np.uint8)


@dataclass(frozen=True, slots=True)
class FileSource(Source):
    """Reads a case from its files.

    Attributes:
        image: Image file; its stem is the name of the case.
        mask: Mask file.
        fov: Field of view, above 0 inside; None if every pixel counts.
        channels: Channels of the image.
        values: What the mask means.
    """

    image: Path
    mask: Path
    fov: Path | None
    channels: int
    values: MaskValues

    def read(self) -> Decoded:
        """Reads and checks the case; all that is wrong with its files is reported at once."""
        problems: list[tuple[str, str]] = []
        image, mask, fov = None, None, None
        try:
            image = read_image(self.image, self.channels)
        except CaseError as error:
            problems += error.problems
        try:
            raw = read_values(self.mask)
            problems += self._size_problem("mask size", image, raw)
            mask = self.values.decode(self.image.stem, raw)
        except CaseError as error:
            problems += error.problems
        try:
            fov = self._read_fov(image)
        except CaseError as error:
            problems += error.problems
        if problems or image is None or mask is None:
            raise CaseError(*problems)
        return Decoded(image, mask, np.ones(mask.shape, dtype=np.bool_) if fov is None else fov)

    def _read_fov(self, image: Pixels | None) -> npt.NDArray[np.bool_] | None:
        if self.fov is None:
            return None
        inside = read_values(self.fov) > 0
        problems = self._size_problem("fov size", image, inside)
        if not inside.any():
            problems.append(("fov empty", self.image.stem))
        if problems:
            raise CaseError(*problems)
        return inside

    def _size_problem(
        self, kind: str, image: Pixels | None, other: Pixels | npt.NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        if image is None or image.shape[:2] == other.shape:
            return []
        found, wanted = "x".join(map(str, other.shape)), "x".join(map(str, image.shape[:2]))
        return [(kind, f"{self.image.stem} ({found} instead of {wanted})")]


@dataclass(frozen=True, slots=True)
class ImageSource(Source):
    """Reads an image that has no mask; its mask is background and every pixel is valid.

    Attributes:
        image: Image file.
        channels: Channels of the image.
    """

    image: Path
    channels: int

    def read(self) -> Decoded:
        """Reads the image."""
        image = read_image(self.image, self.channels)
        return Decoded(image, np.zeros(image.shape[:2], np.uint8), np.ones(image.shape[:2], np.bool_))
