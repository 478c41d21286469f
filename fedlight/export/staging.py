"""A folder that is there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedlight.output_folder import make_folder


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Makes a folder beside another; it gets the other's name at the end of a block and is removed if that breaks off.

    Args:
        folder: The name, which must be free; folders above it are made.

    Raises:
        ConfigError: If no folder can be made there.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    make_folder(part, meant=folder)
    try:
        yield part
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
