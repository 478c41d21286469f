"""The process of a site that stays warm between messages.

It ends itself when no message came for a while, when the SuperNode is gone, and when whoever asked is gone before the
work is done. It answers only those who know the secret in the site's folder, and only from this machine.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from fedlight.deploy.node import Node
from fedlight.deploy.relay import secret, state
from fedlight.deploy.site import Answer, Built, Site, answer
from fedlight.processes import end_group
from fedlight.serialization import write_bytes

_LOOK = 0.5  # seconds between looks whether somebody still waits for this process


class Watch:
    """Ends this process when nobody needs it.

    Attributes:
        guardian: Process without which this one has no purpose; 0 before the first message.
        asking: Connection that waits for an answer.
        until: When to end if no message comes, by the monotonic clock.
    """

    def __init__(self, idle: float) -> None:
        self.guardian = 0
        self.asking: Connection | None = None
        self.until = time.monotonic() + idle

    def start(self) -> None:
        """Begins to watch, in a thread."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK)
            asking = self.asking
            if self.guardian and not _alive(self.guardian):
                self._end("the SuperNode is gone")
            if asking is None and time.monotonic() > self.until:
                self._end("no message came for a while")
            if asking is not None and _closed(asking) and asking is self.asking:
                self._end("whoever asked is gone")

    def _end(self, why: str) -> None:
        print(f"fedlight: the site's process ends: {why}", flush=True)  # noqa: T201  # its own log
        end_group() if os.getpgid(0) == os.getpid() else os._exit(0)


def serve(folder: Path, built: Built) -> None:
    """Answers messages for a site until nobody needs it any more.

    Args:
        folder: The site's folder.
        built: Builds what a config describes.
    """
    watch = Watch(idle=120)
    watch.start()
    held = _Held(built)
    with Listener(("127.0.0.1", 0), authkey=secret(folder)) as listener:
        where = {"pid": os.getpid(), "port": listener.address[1]}
        write_bytes(state(folder) / "worker.json", json.dumps(where).encode())
        while True:
            try:
                connection = listener.accept()
            except (AuthenticationError, OSError, EOFError):
                continue
            with connection:
                _serve_one(connection, held, watch)


def _serve_one(connection: Connection, held: _Held, watch: Watch) -> None:
    try:
        about = json.loads(connection.recv_bytes())
        block = connection.recv_bytes()
    except (OSError, EOFError, ValueError):
        return
    node = Node.of(about["node"])
    watch.guardian, watch.asking = int(about["guardian"]), connection
    said, reply = held.answer(node, about["fields"], block)
    watch.until, watch.asking = time.monotonic() + node.idle, None
    try:
        connection.send_bytes(json.dumps(said).encode())
        connection.send_bytes(reply)
    except OSError:
        return


class _Held:
    """The site, made at the first message and anew where its settings or the agreed config have changed."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self._site: Site | None = None
        self._made_of: tuple[Any, ...] = ()

    def answer(self, node: Node, fields: dict[str, Any], block: bytes) -> Answer:
        return answer(lambda: self._current(node), node, fields, block)

    def _current(self, node: Node) -> Site:
        run = Path(node.folder) / "run.yaml"
        made_of = (node, run.stat().st_mtime_ns)
        if self._site is None or made_of != self._made_of:
            if self._site is not None:
                self._site.close()
            self._site = None
            self._site, self._made_of = Site(node, self._built), made_of
        return self._site


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _closed(connection: Connection) -> bool:
    """Says whether the other end is closed: it is readable although nothing is to be said."""
    try:
        return bool(select.select([connection.fileno()], [], [], 0)[0])
    except (OSError, ValueError):
        return False
