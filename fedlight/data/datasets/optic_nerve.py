"""What masks of optic disc and cup can be made into: FolderSites' classes exclude each other, disc and cup do not."""

from __future__ import annotations

from typing import Literal

Target = Literal["rim_cup", "disc", "cup"]

HELP = "rim_cup: two classes, disc without cup, and cup; disc: the whole disc; cup: the cup"

CLASSES: dict[Target, tuple[str, ...]] = {
    "rim_cup": ("background", "rim", "cup"),
    "disc": ("background", "disc"),
    "cup": ("background", "cup"),
}
"""Names of the classes of every target."""

ORDER: dict[Target, tuple[int, int, int]] = {"rim_cup": (2, 1, 0), "disc": (1, 1, 0), "cup": (1, 0, 0)}
"""Class of the cup, of the disc around it and of the background, which is the order of their grey levels."""
