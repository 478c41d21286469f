"""Fetches a file of a data set: goes on where it was interrupted, and keeps nothing whose SHA-256 is another.

pooch, which many packages use for this, begins large files anew after every interruption; the rest of it is not needed.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from fedlight.data.conversion.journal import sha256
from fedlight.errors import ConfigError

TIMEOUT = 60.0
"""Seconds without an answer after which a connection is given up."""

TRIES, PAUSE = 4, 1.0
"""How often a connection that broke is made again, and after how many seconds."""

Progress = Callable[[int, int | None], None]
"""Is told how many bytes are there, and of how many if the server says so."""


@dataclass(frozen=True, slots=True)
class Download:
    """A zip archive that its owners let anybody have without a registration.

    Attributes:
        url: Where it is.
        sha256: What it must be, in hexadecimal.
        folder: Where below the source it is unpacked.
        allowed: The licence by which it is fetched.
    """

    url: str
    sha256: str
    folder: str
    allowed: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return PurePosixPath(urlsplit(self.url).path).name


def fetch(download: Download, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """Fetches a file into a folder, unless it is there; what there is of it in ``NAME.part`` is not fetched again.

    Raises:
        ConfigError: If it cannot be had, or is not what it must be.
    """
    path, part = folder / download.name, folder / f"{download.name}.part"
    if path.exists():
        _check(path, download, f"Remove {path} to fetch it again.")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    _fetch_all(download, part, progress)
    try:
        _check(part, download, "It may have been replaced by its owners: get it yourself and look.")
    except ConfigError:
        part.unlink()
        raise
    part.replace(path)
    return path


def _check(path: Path, download: Download, remedy: str) -> None:
    if (found := sha256(path)) != download.sha256:
        raise ConfigError(f"{download.url} has the SHA-256 {found}, and {download.sha256} was expected. {remedy}")


def _fetch_all(download: Download, part: Path, progress: Progress) -> None:
    """Appends to a part until all is there; breaks of the connection are forgiven as long as something arrives."""
    tries = 0
    while True:
        before = _size(part)
        try:
            _fetch_rest(download, part, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise ConfigError(f"{download.url} answers {error.code} {error.reason}. Get it yourself.") from error
            if before == 0 or tries == TRIES:
                return
            if sha256(part) == download.sha256:  # killed between the last byte and the new name
                return
            part.unlink()
        except (OSError, http.client.HTTPException) as error:
            if tries == TRIES:
                reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                raise ConfigError(
                    f"{download.url} cannot be reached ({reason}). Start again: what is there is kept."
                ) from error
            time.sleep(PAUSE)
        tries = 0 if _size(part) > before else tries + 1


def _fetch_rest(download: Download, part: Path, progress: Progress) -> None:
    """Asks for what is not there yet; a server that cannot send a part sends all."""
    start = _size(part)
    request = urllib.request.Request(download.url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if start and not _continues(answer, start):
            start = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with part.open("ab" if start else "wb") as file:
            _copy(answer, file, start, total, progress)
    if total is not None and _size(part) < total:
        raise http.client.IncompleteRead(b"", total - _size(part))


def _continues(answer: http.client.HTTPResponse, start: int) -> bool:
    """Says whether an answer begins where it should."""
    said = answer.headers.get("Content-Range", "")
    return answer.status == http.client.PARTIAL_CONTENT and said.startswith(f"bytes {start}-")


def _copy(answer: BinaryIO, file: BinaryIO, done: int, total: int | None, progress: Progress) -> None:
    while block := answer.read(1 << 16):
        file.write(block)
        done += len(block)
        progress(done, total)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
