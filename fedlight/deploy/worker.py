"""The process of a site that stays warm between messages.

It ends itself when no message came for a while, when the SuperNode is gone, and when whoever asked is gone before the
work is done. It answers only those who know the secret in the site's folder, and only from this machine.

Work is done in the main thread, to which torch's number of threads belongs; another listens. A message with a lease is
answered after it in any case: "at work" if the work is not done. Then it goes on, and a message "wait" or "stop" asks
for its end again, or brings it about.
"""

from __future__ import annotations

import json
import os
import queue
import select
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from fedlight.deploy.node import Node
from fedlight.deploy.relay import secret, state
from fedlight.deploy.site import Answer, Built, Site, answer
from fedlight.processes import end_group
from fedlight.serialization import write_bytes
from fedlight.update import SiteFailure
from fedlight.wire import encode

_LOOK = 0.5  # seconds between looks whether somebody still waits for this process
_GRACE = 20.0  # seconds that work may take to end when it is told to
_AWAY = 120.0  # seconds beyond two leases that work goes on without anybody asking for it


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


@dataclass
class Job:
    """A message at work, and its answer when it is done."""

    node: Node
    fields: dict[str, Any]
    block: bytes
    answer: Answer = field(default_factory=lambda: ({}, b""))
    done: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)


class Reception:
    """Takes messages, has them worked on one after the other, and remembers what is at work while nobody waits.

    Attributes:
        jobs: For the main thread.
        at_work: What somebody will ask for again.
    """

    def __init__(self) -> None:
        self.jobs: queue.Queue[Job] = queue.Queue()
        self.at_work: Job | None = None

    def answer(self, node: Node, fields: dict[str, Any], block: bytes) -> Answer:
        """Returns the answer to a message, or after its lease that the work goes on."""
        phase = fields.get("phase")
        if phase == "stop" or (phase != "wait" and self.at_work is not None):
            self._stop()
        if phase not in ("wait", "stop"):
            self.at_work = Job(node, fields, block)
            self.jobs.put(self.at_work)
        job = self.at_work
        if job is None:
            return {}, encode(SiteFailure(node.site, 0, "fit", "lost", "the site's process ended while it was at work"))
        lease = fields.get("lease")
        if not job.done.wait(None if lease is None else float(lease)):
            return {"at_work": True}, b""
        self.at_work = None
        return job.answer

    def _stop(self) -> None:
        """Has the work ended that is done; what does not end is ended with this process."""
        job, self.at_work = self.at_work, None
        if job is not None:
            job.stopping.set()
            if not job.done.wait(_GRACE):
                end_group()


def serve(folder: Path, built: Built) -> None:
    """Answers messages for a site until nobody needs it any more.

    Args:
        folder: The site's folder.
        built: Builds what a config describes.
    """
    watch, reception, held = Watch(idle=120), Reception(), _Held(built)
    watch.start()
    with Listener(("127.0.0.1", 0), authkey=secret(folder)) as listener:
        where = {"pid": os.getpid(), "port": listener.address[1]}
        write_bytes(state(folder) / "worker.json", json.dumps(where).encode())
        threading.Thread(target=_listen, args=(listener, reception, watch), daemon=True).start()
        while True:
            job = reception.jobs.get()
            job.answer = held.answer(job)
            job.done.set()


def _listen(listener: Listener, reception: Reception, watch: Watch) -> None:
    try:
        while True:
            with suppress(AuthenticationError, OSError, EOFError), listener.accept() as connection:
                _serve_one(connection, reception, watch)
    except Exception:
        traceback.print_exc()  # into its own log
        end_group()  # as nobody listens any more


def _serve_one(connection: Connection, reception: Reception, watch: Watch) -> None:
    try:
        about = json.loads(connection.recv_bytes())
        block = connection.recv_bytes()
    except (OSError, EOFError, ValueError):
        return
    node = Node.of(about["node"])
    watch.guardian, watch.asking = int(about["guardian"]), connection
    said, reply = reception.answer(node, about["fields"], block)
    watch.until, watch.asking = time.monotonic() + _patience(reception, node, about["fields"]), None
    try:
        connection.send_bytes(json.dumps(said).encode())
        connection.send_bytes(reply)
    except OSError:
        return


def _patience(reception: Reception, node: Node, fields: Mapping[str, Any]) -> float:
    """Returns after how many seconds without a message this process ends; work that nobody asks for ends soon."""
    return node.idle if reception.at_work is None else 2 * float(fields["lease"]) + _AWAY


class _Held:
    """The site, made at the first message and anew where its settings or the agreed config have changed."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self._site: Site | None = None
        self._made_of: tuple[Any, ...] = ()

    def answer(self, job: Job) -> Answer:
        return answer(lambda: self._current(job), job.node, job.fields, job.block)

    def _current(self, job: Job) -> Site:
        node = job.node
        run = Path(node.folder) / "run.yaml"
        made_of = (node, run.stat().st_mtime_ns)
        if self._site is None or made_of != self._made_of:
            if self._site is not None:
                self._site.close()
            self._site = None
            self._site, self._made_of = Site(node, self._built), made_of
        self._site.stopping = job.stopping.is_set
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
