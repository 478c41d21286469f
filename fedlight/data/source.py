"""Where the pixels of a case come from: a file, a generator; read again whenever they are not kept in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
        """Reads the case.

        Raises:
            CaseError: If it cannot be used.
        """


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
