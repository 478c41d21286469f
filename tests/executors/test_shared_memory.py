"""Claims about messages through memory that two processes have."""

from __future__ import annotations

import gc
import os
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from fedlight.executors.shared_memory import Place, SharedMemory
from fedlight.update import Update

TENSORS = {
    "float": torch.tensor([[1.5, float("nan")], [float("inf"), -0.0]]),
    "view": torch.arange(12.0).view(3, 4).t()[1:, ::2],
    "channels last": torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "bool": torch.tensor([True, False, True]),
    "counter": torch.tensor(7),
    "half": torch.tensor([0.1], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
}


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    flat = tensor.contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).tolist() if flat.numel() else []


def test_what_is_read_has_the_bits_of_what_was_written() -> None:
    memory = SharedMemory()
    update = Update("a", 3, 5, TENSORS, {}, {"loss": 0.1}, MappingProxyType({"P": {"x": torch.ones(1)}}))
    reader = SharedMemory(os.dup(memory.descriptor))
    back: Update = reader.read(memory.write(update))
    assert {name: bits(value) for name, value in back.params.items()} == {n: bits(v) for n, v in TENSORS.items()}
    assert (back.site, back.metrics, back.shared) == ("a", {"loss": 0.1}, {"P": {"x": torch.ones(1)}})


def test_what_was_read_stays_when_the_next_message_is_written() -> None:
    memory = SharedMemory()
    first = memory.read(memory.write([torch.ones(3), np.ones(3)]))
    second = memory.read(memory.write([torch.zeros(1000), np.zeros(1000)]))
    assert torch.equal(first[0], torch.ones(3))
    assert np.array_equal(first[1], np.ones(3))
    assert second[0].shape == (1000,)


def test_arrays_that_are_opened_can_be_changed_and_nobody_else_sees_it() -> None:
    memory = SharedMemory()
    place = memory.write({"image": np.arange(5), "weight": torch.arange(5)})
    mine, yours = memory.open(place), memory.open(place)
    mine["image"][0] = mine["weight"][0] = 9
    assert yours["image"][0] == yours["weight"][0] == 0
    torch.from_numpy(yours["image"])  # warns of an array that must not be changed


def test_the_structure_holds_no_array() -> None:
    memory = SharedMemory()
    place = memory.write({"weight": torch.zeros(10_000), "image": np.zeros(10_000)})
    assert len(memory.structure(place)) < 500


def test_closed_memory_leaves_nothing_behind() -> None:
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    memory = SharedMemory()
    tensor = memory.read(memory.write(torch.ones(3)))
    memory.close()
    gc.collect()
    assert torch.equal(tensor, torch.ones(3))
    assert not before or set(os.listdir("/proc/self/fd")) == before


def test_a_place_says_where_the_structure_lies() -> None:
    """Ten numbers of four bytes are rounded up to 64 bytes, behind which the structure begins."""
    place = SharedMemory().write(torch.zeros(10))
    assert isinstance(place, Place)
    assert place.start == 64
