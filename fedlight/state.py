"""Arithmetic on states: the parameters or buffers of a network by name.

A state is a plain ``dict[str, Tensor]``. Every function returns new tensors; nothing is edited in place, so a state
that was handed to somebody stays what it was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def parameters_of(module: nn.Module) -> State:
    """Returns detached copies of the trainable parameters of a module, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


def buffers_of(module: nn.Module) -> State:
    """Returns copies of the persistent buffers of a module (running statistics, counters), by name."""
    parameters = {name for name, _ in module.named_parameters()}
    return {name: value.detach().clone() for name, value in module.state_dict().items() if name not in parameters}


@torch.no_grad()
def load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies a state into the parameters and buffers of the same names; names that the state lacks stay as they are.

    Raises:
        KeyError: If the state names something that the module does not have.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, value in state.items():
        own[name].copy_(value)


def clone(state: Mapping[str, Tensor]) -> State:
    """Returns a state with copies of all tensors."""
    return {name: value.detach().clone() for name, value in state.items()}


def zip_map(function: Callable[..., Tensor], first: Mapping[str, Tensor], *others: Mapping[str, Tensor]) -> State:
    """Applies a function to the tensors of the same name in several states.

    >>> zip_map(torch.sub, {"w": torch.tensor(3.0)}, {"w": torch.tensor(1.0)})
    {'w': tensor(2.)}
    """
    return {name: function(value, *(other[name] for other in others)) for name, value in first.items()}


def select(state: Mapping[str, Tensor], names: Collection[str]) -> State:
    """Returns the part of a state with the given names, in the state's own order."""
    return {name: value for name, value in state.items() if name in names}


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Lays tensors end to end: (n,), with gradient; one operation on it is one operation on all of them."""
    return torch.cat([value.flatten() for value in tensors]) if tensors else torch.zeros(0)


def num_bytes(state: Mapping[str, Tensor]) -> int:
    """Counts the bytes that the tensors of a state hold."""
    return sum(value.numel() * value.element_size() for value in state.values())


def digest(state: Mapping[str, Tensor]) -> str:
    """Returns a SHA-256 over names, dtypes, shapes and bits: equal digests mean bit-identical states."""
    sha = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        sha.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return sha.hexdigest()


def fault(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> str | None:
    """Says what is wrong with a state that should have the names, shapes and dtypes of another and finite values.

    Returns:
        One clause that names the first offending tensor, or None for a sound state.
    """
    if missing := [name for name in like if name not in state]:
        return f"{missing[0]} is missing ({len(missing)} of {len(like)} tensors are)"
    if unknown := [name for name in state if name not in like]:
        return f"{unknown[0]} is not a tensor of this network"
    for name, value in state.items():
        expected = like[name]
        if value.shape != expected.shape:
            return f"{name} has shape {tuple(value.shape)}, expected {tuple(expected.shape)}"
        if value.dtype != expected.dtype:
            return f"{name} has dtype {value.dtype}, expected {expected.dtype}"
        if not finite(value):
            return f"{name} holds values that are not finite"
    return None


def finite(value: Tensor) -> bool:
    """Says whether a tensor holds neither nan nor infinity.

    >>> finite(torch.tensor([1.0, 3e38, 3e38])), finite(torch.tensor([1.0, float("-inf"), float("inf")]))
    (True, False)
    """
    if not value.is_floating_point():
        return True
    # one pass without a mask for the usual case: a sum is finite only if every summand is, but large ones may overflow
    return math.isfinite(value.sum()) or bool(torch.isfinite(value).all())


class RunningMean:
    """A weighted mean of states that is built one state at a time, in float64.

    Integer and boolean entries keep their dtype: the largest value is kept (they are counters such as
    ``num_batches_tracked``). Memory is one float64 state whatever the number of summands. A single summand, and
    float32 summands that are all equal, come back with the same bits.

    >>> mean = RunningMean()
    >>> mean.add({"w": torch.tensor([1.0])}, weight=1)
    >>> mean.add({"w": torch.tensor([4.0])}, weight=2)
    >>> mean.result()
    {'w': tensor([3.])}
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._sum: State = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, state: Mapping[str, Tensor], weight: float) -> None:
        """Adds one state; ``weight`` is positive and finite.

        Raises:
            ValueError: If the weight is not a positive finite number.
        """
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight must be positive and finite, got {weight}")
        self.total += weight
        for name, value in state.items():
            self._dtypes.setdefault(name, value.dtype)
            if not value.is_floating_point():
                self._sum[name] = torch.maximum(self._sum[name], value) if name in self._sum else value.clone()
            elif name in self._sum:
                self._sum[name].add_(value, alpha=weight)  # promoted to float64 element by element
            else:
                self._sum[name] = value.to(torch.float64, copy=True).mul_(weight)

    def result(self) -> State:
        """Returns the mean of what was added, every entry in the dtype that it came with.

        Raises:
            ValueError: If nothing was added.
        """
        if not self.total:
            raise ValueError("the mean of no states is not defined")
        return {
            name: (value / self.total if value.is_floating_point() else value).to(self._dtypes[name])
            for name, value in self._sum.items()
        }
