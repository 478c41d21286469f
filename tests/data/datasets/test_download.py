"""Downloads from a server of this machine: whole, interrupted, resumed, wrong; archives that must not be trusted."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fedlight.__main__ import main
from fedlight.data.conversion import download
from fedlight.data.conversion.download import Download, fetch
from fedlight.data.conversion.unpack import unpack
from fedlight.data.datasets.fundus import Fundus
from fedlight.errors import ConfigError
from tests.data.datasets import layouts

CONTENT = bytes(range(256)) * 400


class Server(ThreadingHTTPServer):
    """Serves one file, as it is told to.

    Attributes:
        ranges: Whether parts can be had.
        length: Whether the server says how long an answer is.
        breaks: After how many bytes the next answers end; None for the whole.
        status: What is answered in place of the file.
        asked: The ranges that were asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.ranges, self.length, self.status = CONTENT, True, True, 200
        self.breaks: list[int] = []
        self.asked: list[str | None] = []

    @property
    def file(self) -> Download:
        digest = hashlib.sha256(CONTENT).hexdigest()
        return Download(f"http://127.0.0.1:{self.server_address[1]}/set.zip", digest, "set", "Toy: CC0")


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        content = self.server.content[start:]
        self.send_response(206 if start else 200)
        if self.server.length:
            self.send_header("Content-Length", str(len(content)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(content[: self.server.breaks.pop(0)] if self.server.breaks else content)

    def log_message(self, *message: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(server.file, tmp_path / "new", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(server.file, tmp_path / "new") == path
    assert server.asked == [None]
    assert list(path.parent.iterdir()) == [path]


def test_what_there_is_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_broken_connection_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = [30000, 20000]
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=30000-", "bytes=50000-"]


def test_a_server_without_parts_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "set.zip.part").write_bytes(b"something else" * 10)
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT


def test_a_server_that_says_no_length_is_believed_if_the_hash_is_right(server: Server, tmp_path: Path) -> None:
    server.length = False
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_complete_is_taken_and_one_that_is_too_long_begun_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT
    (tmp_path / "set.zip").unlink()
    (tmp_path / "set.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(ConfigError, match=f"has the SHA-256 .* and {server.file.sha256} was expected"):
        fetch(server.file, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set.zip").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"Remove .*set\.zip to fetch it again"):
        fetch(server.file, tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"mine"


def test_an_answer_that_is_an_error_and_a_server_that_is_not_there_are_said(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(ConfigError, match=r"answers 404 Not Found\. Get it yourself\."):
        fetch(server.file, tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be reached .* what is there is kept"):
        fetch(replace(server.file, url="http://127.0.0.1:9/set.zip"), tmp_path)


def test_connections_that_break_at_once_are_given_up(server: Server, tmp_path: Path) -> None:
    server.breaks = [0] * 100
    with pytest.raises(ConfigError, match="cannot be reached"):
        fetch(server.file, tmp_path)
    assert len(server.asked) == download.TRIES + 1


def test_a_data_set_is_downloaded_unpacked_and_prepared_and_asked_for_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.fundus(tmp_path / "made")
    archive(tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip", "a") as members:
        for path in (tmp_path / "made").rglob("*.png"):
            members.write(path, path.relative_to(tmp_path / "made"))
    server.content = (tmp_path / "set.zip").read_bytes()
    file = replace(server.file, sha256=hashlib.sha256(server.content).hexdigest())
    monkeypatch.setattr(Fundus, "downloads", (file,))
    where = ["--source", str(tmp_path / "copy"), "--root", str(tmp_path / "root")]
    for _ in range(2):
        assert main(["data", "prepare", "fundus", *where, "--download", "--allow_incomplete"]) == 0
    assert server.asked == [None]
    assert len(list((tmp_path / "root").rglob("images/*.png"))) == 20


# --- archives --------------------------------------------------------------------------------------------------------


def archive(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as members:
        for name, text in files.items():
            members.writestr(name, text)
    return path


def test_an_archive_is_unpacked_into_its_folder(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "a.zip", **{"x/y.txt": "y", "z.txt": "z"}), tmp_path / "a")
    assert (tmp_path / "a" / "x" / "y.txt").read_text() == "y"
    (tmp_path / "a" / "z.txt").write_text("changed")
    unpack(tmp_path / "a.zip", tmp_path / "a")
    assert (tmp_path / "a" / "z.txt").read_text() == "changed"


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "x/../../out.txt", "..\\out.txt", "c:\\out.txt"])
def test_nothing_is_written_beside_the_folder(name: str, tmp_path: Path) -> None:
    archive(tmp_path / "a.zip", **{name: "out"})
    with pytest.raises(ConfigError, match="leads out of its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "in" / "a")
    assert not (tmp_path / "in" / "a").exists()
    assert not list(tmp_path.rglob("out.txt"))


def test_an_archive_that_becomes_too_large_is_refused_whatever_it_says(tmp_path: Path) -> None:
    archive(tmp_path / "a.zip", a="0" * 600, b="0" * 600)
    with pytest.raises(ConfigError, match="becomes larger"):
        unpack(tmp_path / "a.zip", tmp_path / "a", largest=1000)
    assert not (tmp_path / "a").exists()
    unpack(tmp_path / "a.zip", tmp_path / "a", largest=1200)


def test_a_damaged_archive_is_said_and_half_an_unpacking_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    (tmp_path / "a.part").mkdir(exist_ok=True)
    (tmp_path / "a.part" / "half.txt").touch()
    unpack(archive(tmp_path / "a.zip", whole="1"), tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["whole"]
