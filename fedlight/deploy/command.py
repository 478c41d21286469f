"""``fedlight deploy``: a federation over a network, from a kit to the exit code of a run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fedlight.arguments import Arguments
from fedlight.data.federated import DataError
from fedlight.deploy.node import Node, NodeError
from fedlight.deploy.site import Built
from fedlight.preparation import ConfigError

USE = "Take fedlight deploy init, check, serve, node or run."


def deploy(arguments: Sequence[str], built: Built) -> int:
    """Runs one of the commands under ``fedlight deploy`` and returns the exit code.

    Raises:
        ConfigError: If it cannot work.
    """
    if not arguments or arguments[0] not in _COMMANDS:
        raise ConfigError(f"deploy has no command {arguments[0] if arguments else '(none)'}. {USE}")
    _need_flower()
    from fedlight.deploy.processes import FlowerError

    try:
        return _COMMANDS[arguments[0]](arguments[1:], built)
    except (NodeError, DataError) as error:
        raise ConfigError(*error.args) from error
    except FlowerError as error:
        sys.stderr.write(f"fedlight: {error}\n")
        return 1


def _init(arguments: Sequence[str], built: Built) -> int:
    from fedlight.deploy.kit import Kit

    parser = Arguments("fedlight deploy init", "Write a kit: a folder for the server and one for every site.")
    parser.add_argument("folder", type=Path, help="where to write it; must not exist yet")
    parser.add_argument("-c", "--config", type=Path, action="append", required=True, help="configs, as for fit")
    parser.add_argument("--sites", nargs="+", help="sites that train; left out, those of data that is on this machine")
    parser.add_argument("--host", default="localhost", help="name or address by which nodes reach the server")
    parser.add_argument("--port", type=int, default=9443)
    parser.add_argument("--deadline", type=float, default=3600.0, help="seconds that a site may work in one phase")
    chosen, settings = parser.parse_known_args(arguments)
    configs = [part for path in chosen.config for part in ("-c", str(path))]
    federation, _, data = built(["fit", *configs, *settings])
    if chosen.sites is None:
        data.prepare()
    sites = [site for site in chosen.sites or data.sites if site not in data.held_out_sites]
    root = Path(getattr(data, "root", ""))
    folders = {site: (root / site).resolve() for site in [*sites, *data.held_out_sites] if (root / site).is_dir()}
    known = folders if hasattr(data, "root") else {}
    kit = Kit(
        chosen.folder,
        federation.config,
        sites,
        data.held_out_sites,
        chosen.host,
        chosen.port,
        chosen.deadline,
        known,
    )
    kit.write()
    sys.stdout.write(f"A kit for {', '.join(sites)} is in {chosen.folder}; its README.md says how to go on\n")
    return 0


def _check(arguments: Sequence[str], built: Built) -> int:
    parser = Arguments("fedlight deploy check", "Look whether a server's or a site's folder is ready.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", nargs="*", help="for a server: settings as for fit")
    chosen, settings = parser.parse_known_args(arguments)
    if (chosen.folder / "server.yaml").is_file():
        return _run_command(chosen.folder, "check", [*chosen.settings, *settings])
    return _check_site(chosen.folder, built)


def _check_site(folder: Path, built: Built) -> int:
    """Looks whether a site can train and whether it reaches its server; prints what it finds."""
    from fedlight.deploy.processes import healthy
    from fedlight.deploy.site import Site, versions

    node, connection = Node.read(folder)
    sys.stdout.write(f"{node.site}: {versions()}\n")
    site = Site(node, built)
    about = site.hello({"agreement": "{}"})
    sys.stdout.write(f"{node.site}: data and settings work; {about['num_samples']} training cases\n")
    site.close()
    address = str(connection.get("superlink"))
    reached = healthy(address, folder / str(connection.get("certificate")))
    said = "answers and is who it should be" if reached else "cannot be reached, or is not the one of the certificate"
    sys.stdout.write(f"{node.site}: the server at {address} {said}\n")
    return 0 if reached else 1


def _serve(arguments: Sequence[str], built: Built) -> int:
    from fedlight.deploy.processes import ServerFolder, serve

    parser = Arguments("fedlight deploy serve", "Run a server's SuperLink until it is ended.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", help="address to listen on, in place of that in server.yaml")
    chosen = parser.parse_args(arguments)
    return serve(ServerFolder.read(chosen.folder), chosen.host)


def _node(arguments: Sequence[str], built: Built) -> NoReturn:
    from fedlight.deploy.processes import supernode

    parser = Arguments("fedlight deploy node", "Run a site's SuperNode until it is ended.")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    command, environment = supernode(*Node.read(chosen.folder))
    os.execve(command[0], command, os.environ | environment)


def _run(arguments: Sequence[str], built: Built) -> int:
    from fedlight.deploy.server import COMMANDS

    parser = Arguments("fedlight deploy run", "Train or score a federation from its server's folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs="?", default="fit", choices=COMMANDS)
    chosen, settings = parser.parse_known_args(arguments)
    return _run_command(chosen.folder, chosen.command, settings)


def _run_command(folder: Path, command: str, settings: Sequence[str]) -> int:
    from fedlight.deploy.processes import ServerFolder, run

    return run(ServerFolder.read(folder), command, settings)


def _worker(arguments: Sequence[str], built: Built) -> int:
    """Is what a node starts to work; nobody types it."""
    from fedlight.deploy.worker import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the node, whose end ends this too
    serve(Path(arguments[0]), built)
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str], Any], int]] = {
    "init": _init,
    "check": _check,
    "serve": _serve,
    "node": _node,
    "run": _run,
    "worker": _worker,
}


def _need_flower() -> None:
    from importlib.util import find_spec

    if find_spec("flwr") is None:
        raise ConfigError(
            "fedlight deploy needs Flower, which is not installed. Get it: pip install 'fedlight[flower]'."
        )
