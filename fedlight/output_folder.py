"""Where a command writes: a folder that is there or can be made."""

from __future__ import annotations

import os
from pathlib import Path

from fedlight.errors import ConfigError


def require_folder(path: Path) -> None:
    """Checks, before any work, that nothing else lies where a folder is to be; makes nothing.

    Raises:
        ConfigError: If the path, or a part of it, is a file.
    """
    place = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    if place is not None and not place.is_dir():
        raise _impossible(path, f"{place} is a file")


def make_folder(path: Path, meant: Path | None = None) -> None:
    """Makes a folder, and those above it, where it is not there.

    Args:
        path: The folder.
        meant: What was asked for, where the folder stands in for it.

    Raises:
        ConfigError: If it cannot be made where it is wanted.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise _impossible(meant or path, str(error.strerror)) from error


def _impossible(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"output must lie where a folder can be made, got {path} ({reason}). Name another place.")
