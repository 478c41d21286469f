"""Flower's own programs: started with TLS and authentication, and without calls home unless asked for."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import IO, Any

import yaml

from fedlight.deploy.leash import leashed
from fedlight.deploy.node import SERVER, DeployError, Node, check_folder
from fedlight.deploy.relay import state
from fedlight.deploy.server import FOLDER, outcome
from fedlight.errors import say

CONNECTION = "federation"
"""What the SuperLink is called in ``flower/config.toml``."""

_LOOK = 0.2  # seconds between looks at a run's log
_FREED = 5.0  # seconds after which a port is free whose server has been killed
_AGAIN = 3.0  # seconds between two tries
_REFUSED = "code: 2004"  # what Flower's SuperNode says then
_HEARD = 5.0  # seconds to read what a program has said that has ended
_ASK = 15.0  # seconds between questions to the SuperLink whether a run is still there


class FlowerError(RuntimeError):
    """One of Flower's programs did not do what it was asked; one sentence."""


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The folder of a server.

    Attributes:
        path: The folder.
        host: Address that it listens on.
        port: Its port.
        telemetry: Whether Flower may call home.
    """

    path: Path
    host: str
    port: int
    telemetry: bool

    @classmethod
    def read(cls, path: Path) -> ServerFolder:
        """Reads ``server.yaml``.

        Raises:
            DeployError: If it is missing or cannot work.
        """
        check_folder(path, SERVER)
        path = path.resolve()
        try:
            plain = yaml.safe_load((path / SERVER).read_text())
            return cls(path, str(plain["host"]), int(plain["port"]), bool(plain.get("telemetry", False)))
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise DeployError(f"{path / SERVER} must hold host and port ({type(error).__name__}: {error}).") from error

    @property
    def environment(self) -> dict[str, str]:
        """Variables of everything that is started for this server."""
        return _environment(self.telemetry) | {"FLWR_HOME": str(self.path / "flower"), FOLDER: str(self.path)}


def superlink(server: ServerFolder, host: str | None = None) -> list[str]:
    """Returns the command that starts a server's SuperLink."""
    certificates = server.path / "certificates"
    (server.path / "state").mkdir(mode=0o700, exist_ok=True)
    return [
        _program("flower-superlink"),
        *("--host", host or server.host, "--port", str(server.port)),
        *("--ssl-certfile", str(certificates / "server.crt"), "--ssl-keyfile", str(certificates / "server.key")),
        *("--ssl-ca-certfile", str(certificates / "ca.crt"), "--enable-supernode-auth"),
        *("--database", str(server.path / "state" / "superlink.db")),
        "--disable-runtime-dependency-installation",
    ]


def supernode(node: Node, connection: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Returns the command that starts a site's SuperNode, and its environment.

    Raises:
        DeployError: If a setting is missing, or the program.
    """
    folder, program = Path(node.folder), _program("flower-supernode")
    try:
        command = [
            program,
            *("--superlink", str(connection["superlink"])),
            *("--root-certificates", str(folder / connection["certificate"])),
            *("--auth-supernode-private-key", str(folder / connection["key"])),
            *("--host", "127.0.0.1", "--port", str(int(connection.get("port", 9094)))),
            *("--node-config", node.config()),
        ]
    except (KeyError, ValueError) as error:
        raise DeployError(
            f"connection in {folder}/site.yaml must hold superlink, certificate and key: {error}"
        ) from error
    environment = _environment(bool(connection.get("telemetry", False)))
    environment |= {"FLWR_HOME": str(state(folder) / "flower"), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}
    return command, environment


def serve(server: ServerFolder, host: str | None = None) -> int:
    """Runs a server's SuperLink and registers the nodes whose keys are in ``nodes/``, until it ends.

    Returns:
        The SuperLink's exit code; 0 if it was asked to end.

    Raises:
        DeployError: If its port is taken.
        FlowerError: If the SuperLink does not start, or a node cannot be registered.
    """
    check_port(host or server.host, server.port)
    with leashed(superlink(server, host), server.environment) as started:
        process = started.process
        while process.poll() is None and not healthy(f"127.0.0.1:{server.port}", _ca(server)):
            time.sleep(_LOOK)
        if process.poll() is None:
            register(server)
            sys.stdout.write(f"fedlight: nodes may connect to port {server.port}\n")
            sys.stdout.flush()
        elif not started.asked:
            raise FlowerError(f"Flower's SuperLink ended with exit code {process.returncode}; it says why above.")
        return max(process.wait(), 0)


def attend(node: Node, connection: Mapping[str, Any], wait: float) -> int:
    """Runs a site's SuperNode until it ends; one that the server does not let in yet is started again for a while.

    Args:
        node: The site.
        connection: How it reaches the server.
        wait: Seconds for which it tries again.

    Returns:
        The SuperNode's exit code; 0 if it was asked to end.

    Raises:
        DeployError: If a setting is missing.
        FlowerError: If the server does not let it in.
    """
    command, environment = supernode(node, connection)
    limit = time.monotonic() + wait
    while True:
        code, refused = _once(command, environment)
        if not refused:
            return code
        if time.monotonic() > limit:
            raise FlowerError(
                f"the server at {connection['superlink']} must know the key of {node.site}, and does not let it in. "
                f"Put its public key into the server's nodes/{node.site}.pub and start the server again, "
                "or end another node that uses this key."
            )
        say(f"the server does not know the key of {node.site} (yet), or its last node has just ended; trying again")
        time.sleep(_AGAIN)


def check_port(host: str, port: int) -> None:
    """Checks that nobody listens where a server is to; one that has just been killed is given time to end.

    Raises:
        DeployError: If somebody does, or if one cannot listen there.
    """
    limit = time.monotonic() + _FREED
    while (problem := _taken(host, port)) is not None:
        if problem.errno != errno.EADDRINUSE:
            raise DeployError(
                f"a server must be able to listen on {host}, port {port}, got: {problem.strerror}. "
                "Change host in server.yaml, or make the kit with another --port."
            )
        if time.monotonic() > limit:
            raise DeployError(
                f"port {port} must be free, but another program listens on it, maybe a server that still runs. "
                "End that, or make the kit with another --port."
            )
        time.sleep(_LOOK)


def register(server: ServerFolder) -> None:
    """Tells the SuperLink which nodes it may let in, each under its name; those that it knows stay as they are.

    Raises:
        FlowerError: If one cannot be registered.
    """
    os.environ.update(server.environment)
    for key in sorted((server.path / "nodes").glob("*.pub")):
        said = _in_process(["supernode", "register", str(key), CONNECTION, "--name", key.stem])
        if "success" not in said and "already" not in said:
            raise FlowerError(f"{key.stem} could not be registered: {' '.join(said.split())[-300:]}")


def run(server: ServerFolder, command: str, settings: Sequence[str]) -> int:
    """Starts a command inside the SuperLink, shows what it prints and returns its exit code.

    Raises:
        FlowerError: If the SuperLink cannot be reached, or lost the run.
    """
    import shlex

    overrides = f"command={json.dumps(command)} settings={json.dumps(shlex.join(settings))}"
    if "'" in overrides:
        overrides_file = server.path / "state" / "overrides.toml"
        overrides_file.write_text(overrides.replace(" settings=", "\nsettings="))
        overrides = str(overrides_file)
    started = _json(server, ["run", str(server.path / "app"), CONNECTION, "--run-config", overrides])
    run_id = str(started["run-id"])
    try:
        return _follow(server, run_id)
    except KeyboardInterrupt:
        _json(server, ["stop", run_id, CONNECTION])
        raise


def healthy(address: str, authority: Path) -> bool:
    """Says whether a server that an authority vouches for answers at an address."""
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with urllib.request.urlopen(f"https://{address}/health", timeout=10, context=context) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


# --- inside ----------------------------------------------------------------------------------------------------------


def _follow(server: ServerFolder, run_id: str) -> int:
    """Shows a run's log until it is over."""
    log, done = server.path / "logs" / f"{run_id}.log", outcome(server.path, run_id)
    shown, asked = 0, time.monotonic()
    while True:
        over = done.is_file()
        shown += _show(log, shown)
        if over:
            return int(json.loads(done.read_text())["code"])
        if time.monotonic() - asked > _ASK:
            asked = time.monotonic()
            (status,) = _json(server, ["ls", CONNECTION, "--run-id", run_id])["runs"]
            if str(status["status"]).startswith("finished") and not done.is_file():
                raise FlowerError(f"run {run_id} ended without a word: {status['status']} {status['status-details']}")
        time.sleep(_LOOK)


def _show(log: Path, begin: int) -> int:
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(begin)
        text = file.read()
    text = text[: text.rfind(b"\n") + 1]
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return len(text)


def _json(server: ServerFolder, arguments: Sequence[str]) -> dict[str, Any]:
    command = [_program("flwr"), *arguments, "--format", "json"]
    done = subprocess.run(command, env=os.environ | server.environment, capture_output=True, text=True, check=False)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise FlowerError(
            f"flwr {arguments[0]} failed: {' '.join((done.stderr or done.stdout).split())[-300:]}"
        ) from error
    if not said.get("success", False):
        reason = " ".join(str(said.get("error-message", said)).split())[-300:]
        raise FlowerError(f"flwr {arguments[0]} failed: {reason} Start the server first: fedlight deploy serve DIR.")
    return said


def _in_process(arguments: Sequence[str]) -> str:
    """Runs one of flwr's commands in this process and returns what it says: starting Python anew takes seconds."""
    import click
    from flwr.cli.app import app

    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            app(list(arguments), standalone_mode=False)
        except (click.ClickException, click.exceptions.Exit, SystemExit) as error:
            said.write(str(getattr(error, "message", error)))
    return said.getvalue()


def _once(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bool]:
    """Runs a SuperNode, shows what it says, and returns its exit code and whether the server did not let it in."""
    with leashed(command, environment, subprocess.PIPE) as started:
        assert started.process.stderr is not None
        heard = _Heard(started.process.stderr)
        heard.start()
        code = max(started.process.wait(), 0)
    heard.join(_HEARD)
    return code, heard.refused and code != 0 and not started.asked


class _Heard(threading.Thread):
    """Passes on what a SuperNode says, and remembers whether it was not let in."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self.refused = False
        self._stream = stream

    def run(self) -> None:
        """Reads until there is no more."""
        with self._stream:
            for line in self._stream:
                self.refused |= _REFUSED in line
                sys.stderr.write(line)
                sys.stderr.flush()


def _taken(host: str, port: int) -> OSError | None:
    """Returns why one cannot listen on a port; None if one can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do no harm
            tried.bind(address)
    except OSError as error:
        return error
    return None


def _environment(telemetry: bool) -> dict[str, str]:
    asked = {} if telemetry else {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    # Flower's programs start each other by name
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {"PATH": path, "NO_ALBUMENTATIONS_UPDATE": "1", **asked}


def _program(name: str) -> str:
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise DeployError(f"{name} is not installed in this environment. Get it with: pip install 'fedlight[flower]'.")
    return str(path)


def _ca(server: ServerFolder) -> Path:
    return server.path / "certificates" / "ca.crt"
