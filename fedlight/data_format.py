"""What a task must know about the data before it builds its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedlight.geometry import Placing


@dataclass(frozen=True, slots=True)
class DataFormat:
    """What images and masks are like, the same at every site.

    Attributes:
        classes: Names of the classes, background first; ("background", "vessel") is a binary task.
        channels: Channels of an image.
        train_size: (height, width) of the images of a training batch.
        placing: How evaluation images come to the network's grid.
        patches: Whether training images are patches of larger ones.
    """

    classes: tuple[str, ...]
    channels: int
    train_size: tuple[int, int]
    placing: Placing = "padded"
    patches: bool = False
