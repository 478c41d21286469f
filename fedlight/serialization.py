"""Trees of tensors and plain values as bytes, without pickle.

A tree is a tensor, a plain value (None, bool, int, float, str) or a dict, list or tuple of trees. The tensors are
stored in safetensors format, the rest as JSON in its header, so reading a file or a message of a peer can never run
code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
from safetensors.torch import save
from torch import Tensor

from fedlight.errors import DamagedFileError

_TREE = "tree"


def pack(tree: Any) -> bytes:
    """Encodes a tree.

    Raises:
        TypeError: If the tree holds something that is neither a tensor nor a plain value.
    """
    return save(*_parts(tree))


def unpack(data: bytes) -> Any:
    """Decodes what ``pack`` returned.

    Raises:
        ValueError: If the bytes are not what ``pack`` writes.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return _decode(json.loads(header["__metadata__"][_TREE]), safetensors.torch.load(data))
    except (KeyError, TypeError, UnicodeDecodeError, safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"not a packed tree of tensors: {error}") from error


def write(path: Path, tree: Any) -> None:
    """Packs a tree into a file, written aside and renamed, so that the file is whole or absent."""
    write_bytes(path, pack(tree))


def read(path: Path) -> Any:
    """Unpacks a file.

    Raises:
        DamagedFileError: If the file is truncated or not one of ours; the message names it.
    """
    try:
        return unpack(path.read_bytes())
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file aside, flushes it to disk and renames it into place."""
    with aside(path) as file:
        file.write(data)


@contextmanager
def aside(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside another; what was written is flushed to disk and renamed into place at the end of a block."""
    part = _part(path)
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def link(source: Path, path: Path) -> None:
    """Gives a file a second name in place of the file that had it; a copy where the disk cannot link."""
    part = _part(path)
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(source)
    except OSError:
        write_bytes(path, source.read_bytes())
    else:
        part.replace(path)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _parts(tree: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Takes a tree apart into tensors by number, each with memory of its own, and metadata."""
    tensors: dict[str, Tensor] = {}
    structure = _encode(tree, tensors)
    taken: set[int] = set()
    for key, tensor in tensors.items():
        memory = tensor.untyped_storage()
        if memory.data_ptr() in taken or memory.nbytes() > tensor.nbytes:  # safetensors refuses what others share
            tensors[key] = tensor.clone()
        taken.add(memory.data_ptr())
    return tensors, {_TREE: json.dumps(structure)}


def _encode(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        key = str(len(tensors))
        tensors[key] = tree.detach().to("cpu").contiguous()
        return {"tensor": key}
    if isinstance(tree, dict):
        return {"dict": [[_encode(key, tensors), _encode(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [_encode(value, tensors) for value in tree]}
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    raise TypeError(f"only tensors and plain values can be stored, got {type(tree).__name__}")


def _decode(structure: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_decode(key, tensors): _decode(value, tensors) for key, value in content}
    values = [_decode(value, tensors) for value in content]
    return tuple(values) if kind == "tuple" else values
