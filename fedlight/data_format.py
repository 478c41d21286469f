"""What a task must know about the data before it builds its network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataFormat:
    """What images and masks are like, the same at every site.

    Attributes:
        classes: Names of the classes, background first; ("background", "vessel") is a binary task.
        channels: Channels of an image.
        resized: Whether evaluation images are resized to a grid (else they are only padded).
        train_size: (height, width) of the images of a training batch.
        patches: Whether training images are patches of larger ones.
    """

    classes: tuple[str, ...]
    channels: int
    train_size: tuple[int, int]
    resized: bool = False
    patches: bool = False
