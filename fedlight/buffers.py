"""Running statistics of BatchNorm in a federation: averaging them over sites, or computing them anew.

Networks with GroupNorm have no buffers, and nothing here concerns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlight.state import RunningMean, State

_MEAN, _VARIANCE = "running_mean", "running_var"


class BufferAverage:
    """The buffers of the union of several sites, from one site's buffers at a time.

    Variances follow the law of total variance, Var = E[var + mean^2] - E[mean]^2, computed in float64: sites
    with different means make the union wider than the average site. Counters keep the largest value and their dtype;
    every other buffer is a weighted mean.

    >>> average = BufferAverage()
    >>> average.add({"running_mean": torch.tensor([0.0]), "running_var": torch.tensor([1.0])}, weight=1)
    >>> average.add({"running_mean": torch.tensor([2.0]), "running_var": torch.tensor([1.0])}, weight=1)
    >>> average.result()
    {'running_mean': tensor([1.]), 'running_var': tensor([2.])}
    """

    def __init__(self) -> None:
        self._mean = RunningMean()
        self._like: State = {}

    def add(self, buffers: Mapping[str, Tensor], weight: float) -> None:
        """Adds the buffers of one site; ``weight`` is positive and finite."""
        # measured from the first site's means, so that large means do not swallow small differences
        self._like = self._like or dict(buffers)
        self._mean.add(summable(buffers, self._like), weight)

    def result(self) -> State:
        """Returns the buffers of the union, every one in the dtype that it came with.

        Raises:
            ValueError: If nothing was added.
        """
        return of_union(self._mean.result(), self._like)


def summable(buffers: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> State:
    """Returns what is averaged for buffers: var + mean^2 for a variance, the buffer itself for anything else.

    Args:
        buffers: Of a site.
        like: Buffers whose means all others are measured from.

    Returns:
        float64; integers as they are.
    """
    wide = {name: value.double() if value.is_floating_point() else value for name, value in buffers.items()}
    shifted = {name: value - like[name].double() if _is_mean(name) else value for name, value in wide.items()}
    return {name: _second_moment(name, shifted) for name in shifted}


def of_union(mean: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> State:
    """Returns the buffers of several sites' union from the mean of what ``summable`` returned for each.

    Args:
        mean: float64.
        like: What their means were measured from; with the dtypes of the result.
    """
    union = {}
    for name, value in mean.items():
        if _is_mean(name):
            value = value + like[name].double()
        elif (partner := _partner(name)) in mean:
            value = value - mean[partner].square()
        union[name] = value.to(like[name].dtype)
    return union


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Computes the running statistics of a network anew, as exact means over batches of images, in place.

    Only BatchNorm layers are in training mode meanwhile; dropout and everything else is in evaluation mode. Without a
    batch the statistics stay as they are. Batches count by their images. A running variance is the mean of the batches'
    own (unbiased) variances.

    Args:
        module: Called with the images; modes and momenta come back as they were.
        batches: (N, C, H, W) each, on the device of the module.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    seen = 0
    with _only_training(module, norms), torch.no_grad():
        for images in batches:
            for norm in norms if not seen else ():
                norm.reset_running_stats()
            seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / seen  # the share of this batch in the mean over all so far
            module(images)


@contextmanager
def _only_training(module: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """Puts only the given layers into training mode for the length of a block; their momenta come back after it."""
    modes = [(layer, layer.training) for layer in module.modules()]
    momenta = [(norm, norm.momentum) for norm in norms]
    for layer, _ in modes:
        layer.training = False
    for norm in norms:
        norm.training = True
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
        for norm, momentum in momenta:
            norm.momentum = momentum


def _is_mean(name: str) -> bool:
    return name.rsplit(".", 1)[-1] == _MEAN


def _partner(name: str) -> str:
    """Returns the name of the mean that belongs to a variance, and an empty name for anything else."""
    prefix, dot, leaf = name.rpartition(".")
    return f"{prefix}{dot}{_MEAN}" if leaf == _VARIANCE else ""


def _second_moment(name: str, buffers: Mapping[str, Tensor]) -> Tensor:
    """Returns what is averaged for a buffer: var + mean^2 for a variance, the buffer itself for anything else."""
    partner = _partner(name)
    return buffers[name] + buffers[partner].square() if partner in buffers else buffers[name]
