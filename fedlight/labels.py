"""What the masks of a federation mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Labels:
    """What the masks mean.

    Attributes:
        classes: Names of the classes, background first; ("background", "vessel") is a binary task.
        channels: Channels of an image.
    """

    classes: tuple[str, ...]
    channels: int
