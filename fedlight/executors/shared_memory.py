"""Messages between processes of one machine: their structure is pickled, their arrays lie in memory that both have.

Only for processes that we have started ourselves: what comes from elsewhere is never unpickled.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import pickle
import tempfile
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

_ALIGNMENT = 64
"""Bytes; every type of number may begin there."""


class Place(NamedTuple):
    """Where the structure of a message begins, and its length, in bytes."""

    start: int
    length: int


class SharedMemory:
    """Memory that one process writes and others read; it has no name, so nothing is left of it when they end.

    Args:
        descriptor: File descriptor of the memory of another process, inherited from it; new memory without one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _anonymous_file() if descriptor is None else descriptor
        self._map: mmap.mmap | None = None

    def write(self, message: object) -> Place:
        """Puts a message in the place of the one before and returns what a reader needs to know.

        Raises:
            OSError: If there is not as much memory.
            TypeError, AttributeError, pickle.PicklingError: If something in the message cannot be pickled.
        """
        structure = io.BytesIO()
        pickler = _Pickler(structure)
        pickler.dump(message)
        place = Place(pickler.size, structure.tell())
        target = memoryview(self._mapped(place.start + place.length))
        for start, tensor in pickler.tensors:
            _numbers(target, start, tensor.dtype, tuple(tensor.shape)).copy_(tensor)
        for start, content in pickler.contents:
            target[start : start + content.nbytes] = content
        target[place.start : place.start + place.length] = structure.getbuffer()
        return place

    def read(self, place: Place) -> Any:
        """Returns a copy of the message."""
        source = memoryview(self._mapped(place.start + place.length))
        return _Unpickler(source, place, copy=True).load()

    def open(self, place: Place) -> Any:
        """Returns the message with the arrays of numpy where they are, for memory that is not written again.

        All readers have them in common until one changes its own.
        """
        private = mmap.mmap(self.descriptor, place.start + place.length, access=mmap.ACCESS_COPY)
        return _Unpickler(memoryview(private), place, copy=False).load()

    def structure(self, place: Place) -> bytes:
        """Returns what was pickled."""
        return bytes(memoryview(self._mapped(place.start + place.length))[place.start :])

    def close(self) -> None:
        """Lets go of the memory."""
        self._map = None  # tensors and arrays may still lie there
        os.close(self.descriptor)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if os.fstat(self.descriptor).st_size < size:
                _reserve(self.descriptor, size)
            self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        return self._map


class _Pickler(pickle.Pickler):
    """Leaves tensors and the contents of numpy's arrays out and gives each of them a place."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.size = 0
        self.tensors: list[tuple[int, Tensor]] = []
        self.contents: list[tuple[int, memoryview]] = []

    def persistent_id(self, obj: Any) -> Any:
        """Says where a tensor or a content lies; None for everything that is pickled."""
        if type(obj) is Tensor and not obj.requires_grad and obj.layout is torch.strided:
            self.tensors.append((self._place(obj.numel() * obj.element_size()), obj))
            return self.tensors[-1][0], obj.dtype, tuple(obj.shape)
        if type(obj) is pickle.PickleBuffer:
            self.contents.append((self._place(obj.raw().nbytes), obj.raw()))
            return self.contents[-1][0], obj.raw().nbytes
        return None

    def reducer_override(self, obj: Any) -> Any:
        """Sends a read-only mapping, which pickle does not know, as a plain one."""
        return (dict, (dict(obj),)) if type(obj) is MappingProxyType else NotImplemented

    def _place(self, length: int) -> int:
        start = self.size
        self.size = -(-(start + length) // _ALIGNMENT) * _ALIGNMENT
        return start


class _Unpickler(pickle.Unpickler):
    """Finds again what was left out."""

    def __init__(self, memory: memoryview, place: Place, copy: bool) -> None:
        super().__init__(io.BytesIO(memory[place.start : place.start + place.length]))
        self._memory, self._copy = memory, copy

    def persistent_load(self, pid: Any) -> Any:
        """Returns what lies at a place."""
        if len(pid) == 3:
            return _numbers(self._memory, *pid).clone()
        start, length = pid
        content = self._memory[start : start + length]
        return bytearray(content) if self._copy else content


def _numbers(memory: memoryview, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Returns memory from a place on as a tensor; what is written to it is written there."""
    count = math.prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=start).view(shape)


def _anonymous_file() -> int:
    """Makes a file in memory that no name leads to; where the system cannot, a temporary file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fedlight")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _reserve(descriptor: int, size: int) -> None:
    """Makes a file longer; where there is not as much memory, that is said now and not by a signal later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
