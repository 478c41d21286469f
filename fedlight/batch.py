"""What a training step is made of: the batch that data gives and the step that plugins see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from torch import Tensor

from fedlight.state import State


class Batch(TypedDict):
    """A batch of cases of one site.

    For training and plugins, ``mask`` and ``valid`` are on the grid of ``image``. For evaluation they are on the
    grid of the case as it was read (``size``), while ``image`` may be resized and padded (see ``fedlight.geometry``).
    """

    image: Tensor  # (N, C, H, W), float32, normalised as the data module says
    mask: Tensor  # (N, H, W), int64, class index; 0 is background
    valid: Tensor  # (N, H, W), bool; False where a pixel does not count (padding, outside the field of view)
    case: list[str]  # N names
    # (N, 2), float32, (y, x) in mm; 1 where unknown. In evaluation, (N, 3) with (z, y, x) says that the N images are
    # the slices of one volume, in order
    spacing: Tensor
    size: Tensor  # (N, 2), int64, (height, width) of the case as it was read


def is_volume(batch: Batch) -> bool:
    """Says whether an evaluation batch is the slices of one volume, which is scored and written as one."""
    return batch["spacing"].shape[-1] == 3


class View(NamedTuple):
    """One pass through the network."""

    logits: Tensor  # (N, K, H, W); K is 1 for a binary task
    features: Mapping[str, Tensor]  # stage -> (N, C, h, w), the stages that plugins asked for


@dataclass(frozen=True, slots=True)
class Step:
    """A training step after the forward pass, as a plugin's ``penalty`` sees it."""

    images: Tensor  # (N, C, H, W), after every plugin's transform_batch
    masks: Tensor  # (N, H, W), int64
    valid: Tensor  # (N, H, W), bool
    logits: Tensor  # (N, K, H, W)
    features: Mapping[str, Tensor]  # stage -> (N, C, h, w), with gradient
    loss: Tensor  # scalar, the supervised loss of this step
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits, masks, valid) -> supervised loss
    forward: Callable[[Tensor, State | None], View]  # a further pass, without restyling; with other parameters if given
