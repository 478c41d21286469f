"""The half of the Flower app that runs at a site: hands every message to the site's own process, which stays warm.

Flower starts a new process for every message. Importing what training needs would take seconds each time, and a data
set that was decoded would be decoded again. So this process imports nothing heavy: it passes the message on through a
socket of this machine, to a process that it starts if there is none. Both prove that they know the secret in the site's
folder. A process that works longer than the message allows is ended, with all that it started.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlight.deploy.node import DeployError, Node
from fedlight.parcel import ParcelError, block_of, unwrap, wrap
from fedlight.processes import end_group

if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp import ClientApp

START = 600.0
"""Seconds that a site's process may take to start."""

started: list[subprocess.Popen[bytes]] = []
"""What this process has started; it goes on without this one."""


class WorkerLostError(RuntimeError):
    """The site's process ended, or never started."""


class WorkerLateError(RuntimeError):
    """The site's process worked longer than it may."""


def client_app() -> ClientApp:
    """Returns what a SuperNode runs for every message."""
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    def handle(message: Message, context: Context) -> Message:
        return Message(answer(message.content, context.node_config), reply_to=message)

    app = ClientApp()
    for register in (app.train(), app.evaluate(), app.query()):
        register(handle)
    return app


def answer(content: RecordDict, node_config: Mapping[str, Any]) -> RecordDict:
    """Returns the answer to a message; whatever goes wrong becomes an answer that says what may be said of it."""
    fields: dict[str, Any] = {}
    try:
        fields, block = unwrap(content)
        node = Node.of(node_config)
        if fields.get("site") != node.site:
            return _failed(fields, "refused", f"this node is not {fields.get('site')}")
        said, reply = ask(node, fields, block)
        return wrap(said, block_of(reply) if reply else None)
    except WorkerLateError as error:
        return _failed(fields, "late", str(error))
    except (ParcelError, DeployError) as error:
        return _failed(fields, "refused", str(error) if isinstance(error, ParcelError) else "its settings are wrong")
    except (WorkerLostError, OSError, EOFError, ValueError, AuthenticationError) as error:
        print(f"fedlight: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201  # the node's own log
        return _failed(fields, "lost", "the site's process ended while it was at work")


def ask(node: Node, fields: Mapping[str, Any], block: bytes) -> tuple[dict[str, Any], bytes]:
    """Has the site's process do what a message says.

    Raises:
        WorkerLateError: If it takes longer than the message allows; it is ended then.
        WorkerLostError: If it ends.
    """
    seconds = float(fields.get("seconds", 3600))
    with reach(node) as (connection, pid):
        about = {"node": node.plain(), "fields": dict(fields), "guardian": os.getppid()}
        connection.send_bytes(json.dumps(about).encode())
        connection.send_bytes(block)
        if not connection.poll(seconds):
            end_group(pid)
            raise WorkerLateError(f"it worked longer than {seconds:g} s and was ended")
        try:
            return json.loads(connection.recv_bytes()), connection.recv_bytes()
        except (EOFError, ConnectionError) as error:
            raise WorkerLostError("the process ended") from error


class reach:  # reads like the function that it stands for
    """Connects to the site's process for a block, starting one if there is none."""

    def __init__(self, node: Node) -> None:
        self._folder = Path(node.folder)

    def __enter__(self) -> tuple[Connection, int]:
        found = self._connect() or self._start()
        self._connection = found[0]
        return found

    def __exit__(self, *about: object) -> None:
        self._connection.close()

    def _connect(self, pid: int | None = None) -> tuple[Connection, int] | None:
        try:
            where = json.loads((state(self._folder) / "worker.json").read_text())
            if pid is not None and where["pid"] != pid:
                return None
            return Client(("127.0.0.1", where["port"]), authkey=secret(self._folder)), where["pid"]
        except (OSError, EOFError, ValueError, KeyError, AuthenticationError):
            return None

    def _start(self) -> tuple[Connection, int]:
        command = [sys.executable, "-P", "-m", "fedlight", "deploy", "worker", str(self._folder)]
        with (state(self._folder) / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        started.append(process)
        limit = time.monotonic() + START
        while process.poll() is None and time.monotonic() < limit:
            found = self._connect(process.pid)
            if found is not None:
                return found
            time.sleep(0.05)
        end_group(process.pid)
        raise WorkerLostError(f"the process did not start; {state(self._folder) / 'worker.log'} says why")


def state(folder: Path) -> Path:
    """Returns where a site keeps what only it may read; the folder is made."""
    path = folder / "state"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret(folder: Path) -> bytes:
    """Returns the secret that processes of one site share; it is made once and readable by its owner alone."""
    path = state(folder) / "secret"
    if not path.exists():
        part = path.with_name(f"secret.{os.getpid()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        part.rename(path)
    return path.read_bytes()


def _failed(fields: Mapping[str, Any], kind: str, reason: str) -> RecordDict:
    if fields.get("phase") == "hello":
        return wrap({"num_samples": 0, "problem": reason, "versions": ""})
    from fedlight.update import SiteFailure  # heavy, and not needed where all goes well
    from fedlight.wire import encode

    failure = SiteFailure(str(fields.get("site")), 0, str(fields.get("phase")), kind, reason)
    return wrap({}, block_of(encode(failure)))
