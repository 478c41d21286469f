"""Unpacks a zip archive into a folder of its own, whole or not at all, and nothing beside that folder."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from fedlight.errors import ConfigError

LARGEST = 50 * 10**9
"""Bytes that an archive may become."""


def unpack(archive: Path, folder: Path, largest: int = LARGEST) -> None:
    """Unpacks an archive, unless the folder is there.

    Args:
        archive: A zip archive.
        folder: Is made, and appears only when everything is in it.
        largest: Bytes that it may become; they are counted as they come, whatever the archive says.

    Raises:
        ConfigError: If the archive is damaged, too large, or has a name that leads out of the folder.
    """
    if folder.exists():
        return
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                if not member.is_dir():
                    largest -= _extract(members, member, aside, largest)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"{archive} cannot be unpacked ({error}). Remove it and fetch it again.") from error
    aside.mkdir(parents=True, exist_ok=True)
    aside.replace(folder)


def _extract(members: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, room: int) -> int:
    """Writes one file and returns its bytes; a link in an archive becomes a file with the link's target as its text."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.filename:
        raise ConfigError(f"{members.filename} has the name {member.filename}, which leads out of its folder.")
    path = folder.joinpath(*name.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with members.open(member) as source, path.open("wb") as target:
        return _copy(source, target, room, str(members.filename))


def _copy(source: IO[bytes], target: IO[bytes], room: int, name: str) -> int:
    written = 0
    while block := source.read(1 << 20):
        written += len(block)
        if written > room:
            raise ConfigError(f"{name} becomes larger than an archive of a data set may be. Unpack it yourself.")
        target.write(block)
    return written
