"""Codecs in a row: from a state to the bytes that cross, and back.

A payload is, in this order: a bit for every tensor that says whether it is there, the tensors that no codec touches
(those of one dimension: biases and norms), and what every codec wrote, tensor after tensor without names or lengths,
as both ends know them. Nothing in it is executed or trusted: its length is compared with what it must be before
anything is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from fedlight.plugins.codec import Codec, Layout, Lossless, layout_of
from fedlight.randomness import generator
from fedlight.state import State, select


class PayloadError(ValueError):
    """Bytes that are no payload of this pipeline."""


class Pipeline:
    """Writes states with the names, shapes and dtypes of another in few bytes.

    Args:
        codecs: In the order in which they write; a lossless one can only be the last.
        like: A state, or the layout of one.
        min_dimensions: Tensors with fewer dimensions are written as they are.
    """

    def __init__(self, codecs: Sequence[Codec | Lossless], like: Layout, min_dimensions: int = 2) -> None:
        self.codecs = [codec for codec in codecs if isinstance(codec, Codec)]
        self.lossless = codecs[-1] if codecs and isinstance(codecs[-1], Lossless) else None
        self.like = layout_of(like)
        self.min_dimensions = min_dimensions

    @property
    def exact(self) -> bool:
        """Whether what is decoded has the bits that were encoded."""
        return all(codec.exact for codec in self.codecs)

    def num_bytes(self) -> int:
        """Returns the bytes of a payload with all tensors, before the lossless step."""
        return self._mask_bytes + _size(self._plain(self.like)) + self._coded_bytes(self._coded(self.like))

    def encode(self, state: State, seed: int, *purpose: object) -> bytes:
        """Writes a state.

        Args:
            state: With the names, shapes and dtypes that this pipeline was made for. A tensor that is all zeros is
                left out.
            seed: Of the run.
            purpose: What the draws are for; the same for ``decode``.
        """
        present = [bool(torch.count_nonzero(state[name])) for name in self.like]
        mask = np.packbits(present).tobytes()
        state = {name: state[name].detach().cpu() for name, there in zip(self.like, present, strict=True) if there}
        parts = [mask, *map(_bytes_of, self._plain(state).values())]
        carried: State = dict(self._coded(state))
        for index, codec in enumerate(self.codecs):
            carried, beside = codec.encode(carried, generator(seed, *purpose, "codec", index))
            parts += map(_bytes_of, beside.values())
        data = b"".join([*parts, *map(_bytes_of, carried.values())])
        return self.lossless.squeeze(data) if self.lossless else data

    def decode(self, data: bytes, seed: int, *purpose: object) -> State:
        """Reads what ``encode`` wrote; a tensor that was left out is zeros.

        Raises:
            PayloadError: If the bytes are no payload of this pipeline.
        """
        reader = _Reader(self._expanded(data))
        like = self._present(reader.take(self._mask_bytes))
        plain = self._plain(like)
        layouts = self._layouts(self._coded(like))
        expected = _size(plain) + _size(layouts[-1][0]) + sum(_size(beside) for _, beside in layouts[1:])
        if len(reader.rest) != expected:
            raise PayloadError(f"a payload must have {expected} bytes after its mask, got {len(reader.rest)}")
        found = reader.tensors(plain)
        besides = [reader.tensors(beside) for _, beside in layouts[1:]]
        carried = reader.tensors(layouts[-1][0])
        for index in reversed(range(len(self.codecs))):
            draws = generator(seed, *purpose, "codec", index)
            try:
                carried = self.codecs[index].decode(carried, besides[index], layouts[index][0], draws)
            except ValueError as error:
                raise PayloadError(str(error)) from error
        zeros = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in self.like.items()}
        return {**zeros, **found, **carried}

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _mask_bytes(self) -> int:
        return math.ceil(len(self.like) / 8)

    def _plain(self, state: Mapping[str, torch.Tensor]) -> State:
        coded = self._coded(state)
        return {name: value for name, value in state.items() if name not in coded}

    def _coded(self, state: Mapping[str, torch.Tensor]) -> State:
        return {
            name: value
            for name, value in state.items()
            if self.like[name].is_floating_point() and self.like[name].dim() >= self.min_dimensions
        }

    def _layouts(self, coded: Layout) -> list[tuple[Layout, Layout]]:
        """Returns what every codec gets and what the one before wrote beside it, then the same of the last."""
        layouts: list[tuple[Layout, Layout]] = [(coded, {})]
        for codec in self.codecs:
            layouts.append(codec.layout(layouts[-1][0]))
        return layouts

    def _coded_bytes(self, coded: Layout) -> int:
        layouts = self._layouts(coded)
        return _size(layouts[-1][0]) + sum(_size(beside) for _, beside in layouts)

    def _present(self, mask: bytes) -> State:
        bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8))
        if bits[len(self.like) :].any():
            raise PayloadError(f"a payload must be of {len(self.like)} tensors, got a mask for more")
        return select(self.like, {name for name, bit in zip(self.like, bits, strict=False) if bit})

    def _expanded(self, data: bytes) -> bytes:
        if self.lossless is None:
            return data
        try:
            return self.lossless.expand(data, self.num_bytes())
        except ValueError as error:
            raise PayloadError(str(error)) from error


class _Reader:
    """Takes one tensor after the other from bytes."""

    def __init__(self, data: bytes) -> None:
        self.rest = memoryview(data)

    def take(self, size: int) -> bytes:
        if len(self.rest) < size:
            raise PayloadError(f"a payload must have at least {size} bytes, got {len(self.rest)}")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return bytes(taken)

    def tensors(self, layout: Layout) -> State:
        return {name: self._tensor(value) for name, value in layout.items()}

    def _tensor(self, like: torch.Tensor) -> torch.Tensor:
        data = bytearray(self.take(like.numel() * like.element_size()))
        if not data:
            return torch.empty(like.shape, dtype=like.dtype)
        return torch.frombuffer(data, dtype=like.dtype).reshape(like.shape)


def _bytes_of(value: torch.Tensor) -> bytes:
    flat = value.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _size(layout: Layout) -> int:
    return sum(value.numel() * value.element_size() for value in layout.values())
