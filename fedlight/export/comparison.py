"""Whether a file gives what the network gave that was written into it, on random input of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlight.errors import ExportError
from fedlight.export.graph import Graph

TOLERANCE = 1e-4
"""How far logits may be apart: an absolute difference, or a share of the largest logit where that is above 1."""

Sizes = tuple[tuple[int, int, int], ...]
"""(batch, height, width) of what is compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        difference: The largest of two logits, in the unit of ``TOLERANCE``; nan if a logit is not finite.
        sizes: What was compared.
    """

    difference: float
    sizes: Sizes

    def check(self, file: str) -> None:
        """Checks that the difference is within the tolerance.

        Raises:
            ExportError: If it is not.
        """
        if not self.difference <= TOLERANCE:
            raise ExportError(
                f"{file} must give the network's logits to {TOLERANCE:g}, but they differ by {self.difference:.3g}. "
                "It is not kept; choose another format."
            )


def sizes_for(multiple: int) -> Sizes:
    """Returns sizes that differ in everything that may vary; sides are multiples of a network's stride.

    >>> sizes_for(8)
    ((1, 32, 32), (3, 48, 32), (2, 32, 80))
    """
    return tuple(
        (batch, height * multiple, width * multiple) for batch, height, width in ((1, 4, 4), (3, 6, 4), (2, 4, 10))
    )


@torch.inference_mode()
def compare(original: Graph, reopened: Callable[..., Tensor], multiple: int) -> Comparison:
    """Compares a network with what a file makes of the same inputs.

    Args:
        original: The network, in evaluation mode.
        reopened: Takes the same inputs and returns logits.
        multiple: What sides are multiples of.
    """
    sizes = sizes_for(multiple)
    found = []
    for size in sizes:
        inputs = original.example(*size)
        expected, got = original(*inputs), reopened(*inputs)
        found.append(difference(expected, got))
    return Comparison(float(torch.stack(found).max()), sizes)  # max keeps nan


def difference(expected: Tensor, got: Tensor) -> Tensor:
    """Returns the largest difference, as a share of the largest value expected where that is above 1; a scalar.

    Tensors of other shapes are as different as can be.
    """
    if expected.shape != got.shape:
        return torch.tensor(torch.inf)
    apart = (expected.double() - got.double()).abs().max()
    return apart / expected.double().abs().max().clamp_min(1)
