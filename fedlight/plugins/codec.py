"""How a model is written before it crosses between server and site."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from fedlight.plugins.plugin import Plugin
from fedlight.state import State

Layout = Mapping[str, torch.Tensor]
"""Names, shapes and dtypes of a state without its values: tensors on the device "meta"."""


class Codec(Plugin):
    """One step from a state to fewer bytes; several make a ``Pipeline``.

    A codec splits what it gets in two: what the next codec goes on with, and what is written beside it as it is
    (scales, places). Names, shapes and dtypes of both follow from those of what it got, so both ends know them: a
    payload holds values only, its length is known before it is read, and one of another length is refused.
    """

    kind: ClassVar[str] = "codec"

    @abstractmethod
    def layout(self, like: Layout) -> tuple[Layout, Layout]:
        """Returns names, shapes and dtypes of what ``encode`` makes of a state: what goes on, and what is beside it."""

    @abstractmethod
    def encode(self, state: State, generator: torch.Generator) -> tuple[State, State]:
        """Returns what the next codec gets, and what is written beside it.

        Args:
            state: Float32 tensors of any shape, or what the codec before made of them; not to be modified.
            generator: For random draws, on the CPU.
        """

    @abstractmethod
    def decode(self, carried: State, beside: State, like: Layout, generator: torch.Generator) -> State:
        """Undoes ``encode``, as far as it can be undone.

        Args:
            carried: What the codec after has decoded.
            beside: What was written beside it.
            like: Layout of what ``encode`` got.
            generator: Draws what that of ``encode`` drew.
        """

    @property
    def exact(self) -> bool:
        """Whether what is decoded has the bits that were encoded."""
        return False

    @property
    def unbiased(self) -> bool:
        """Whether the mean over the draws is what was encoded."""
        return self.exact

    @property
    def contracts(self) -> bool:
        """Whether what is lost is smaller than what was encoded, so that error feedback comes to an end."""
        return True


class Lossless(Plugin):
    """The last step: bytes to fewer bytes and back, exactly."""

    kind: ClassVar[str] = "codec"
    null: ClassVar[Mapping[str, Any] | None] = {}

    @abstractmethod
    def squeeze(self, data: bytes) -> bytes:
        """Returns the bytes in a shorter form."""

    @abstractmethod
    def expand(self, data: bytes, limit: int) -> bytes:
        """Undoes ``squeeze``.

        Args:
            data: Bytes of a peer.
            limit: Bytes that may come out at most; more must be refused before they are made.

        Raises:
            ValueError: If the bytes are damaged or longer than the limit.
        """


def layout_of(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns names, shapes and dtypes of a state."""
    return {name: torch.empty_like(value, device="meta") for name, value in state.items()}


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Returns a shape and a dtype."""
    return torch.empty(shape, dtype=dtype, device="meta")
