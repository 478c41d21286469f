"""Where the pixels of a case come from: a file, a generator; read again whenever they are not kept in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


class Decoded(NamedTuple):
    """A case on the grid as it was read."""

    image: Pixels  # (H, W, C), uint8 or uint16, the full range of the type
    mask: npt.NDArray[np.uint8]  # (H, W), class index
    valid: npt.NDArray[np.bool_]  # (H, W), False where a pixel does not count


class CaseError(ValueError):
    """A case that cannot be used: pairs of a kind of finding and its detail."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__(*problems)
        self.problems = problems


class Source(ABC):
    """Reads one case; must be picklable, since loader workers call it too."""

    @abstractmethod
    def read(self) -> Decoded:
        """Reads the case; of a volume, the slice in the middle.

        Raises:
            CaseError: If it cannot be used.
        """

    def open(self) -> Slices:
        """Opens the case, to read it slice by slice.

        Raises:
            CaseError: If it cannot be used.
        """
        return Whole(self, self.read())


class Slices(ABC):
    """An open case as a sequence of slices; an image has one.

    Attributes:
        source: Opens it again; of a volume, without measuring it anew.
        spacing: (y, x) of an image or (z, y, x) of a volume, z across slices, in mm; 1 where unknown.
        in_mm: Whether the spacing is known.
        remarks: Pairs of a kind of finding and its detail, of a case that can be used all the same.
    """

    source: Source
    spacing: tuple[float, ...] = (1.0, 1.0)
    in_mm: bool = False
    remarks: Sequence[tuple[str, str]] = ()

    @abstractmethod
    def __len__(self) -> int:
        """The number of slices."""

    @abstractmethod
    def read(self, index: int) -> Decoded:
        """Reads a slice.

        Raises:
            CaseError: If it cannot be used.
        """


class Whole(Slices):
    """An image, which is its only slice.

    Args:
        source: Where it comes from.
        decoded: What was read.
    """

    def __init__(self, source: Source, decoded: Decoded) -> None:
        self.source = source
        self.decoded = decoded

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Decoded:
        """Returns the image."""
        return self.decoded


@dataclass(frozen=True, slots=True)
class Entry:
    """A case that is known by name and not read yet.

    Attributes:
        name: Unique at its site.
        group: The patient; cases of one group stay in one split.
        source: Where its pixels come from.
    """

    name: str
    group: str
    source: Source
