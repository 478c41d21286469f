"""The commands under ``fedlight deploy`` that read configs and data: ``init``, ``check`` of a site, a site's work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedlight.arguments import Arguments
from fedlight.data.federated import DataError
from fedlight.data.synthetic import SyntheticSites
from fedlight.deploy.light import MISSING
from fedlight.deploy.node import DeployError, Node
from fedlight.deploy.site import Built
from fedlight.messages import did_you_mean
from fedlight.preparation import ConfigError

USE = "Take fedlight deploy init, check, serve, node or run."


def deploy(arguments: Sequence[str], built: Built) -> int:
    """Runs one of these commands and returns the exit code.

    Args:
        arguments: What follows ``fedlight deploy``.
        built: Builds what a command line describes and runs nothing.

    Raises:
        ConfigError: If it cannot work.
    """
    if not arguments or arguments[0] not in _COMMANDS:
        raise ConfigError(f"deploy has no command {arguments[0] if arguments else '(none)'}. {USE}")
    if find_spec("flwr") is None:
        raise ConfigError(MISSING)
    try:
        return _COMMANDS[arguments[0]](arguments[1:], built)
    except (DeployError, DataError) as error:
        raise ConfigError(*error.args) from error


def _init(arguments: Sequence[str], built: Built) -> int:
    """Writes a kit."""
    from fedlight.deploy.kit import Kit

    parser = Arguments("fedlight deploy init", "Write a kit: a folder for the server and one for every site.")
    parser.add_argument("folder", type=Path, help="where to write it; must not exist yet, or be empty")
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
    _known(chosen.sites or [], data)
    sites = [site for site in chosen.sites or data.sites if site not in data.held_out_sites]
    kit = Kit(
        folder=chosen.folder,
        config=federation.config,
        sites=sites,
        held_out=data.held_out_sites,
        host=chosen.host,
        port=chosen.port,
        deadline=chosen.deadline,
        data=_folders(data, [*sites, *data.held_out_sites]),
    )
    kit.write()
    sys.stdout.write(f"A kit for {', '.join(sites)} is in {chosen.folder}; its README.md says how to go on\n")
    return 0


def _known(sites: Sequence[str], data: object) -> None:
    """Checks names of sites where data is made in memory: then all are known, on this machine as on any other."""
    if not isinstance(data, SyntheticSites):
        return
    data.prepare()
    known = [*data.sites, *data.held_out_sites]
    for site in sites:
        if site not in known:
            raise ConfigError(
                f"sites must be among {', '.join(known)}, got {site}. {did_you_mean(site, known)}".rstrip()
            )


def _folders(data: object, sites: Sequence[str]) -> dict[str, Path]:
    """Returns where the sites' data lies, for those whose data is on this machine."""
    root = getattr(data, "root", None)
    found = {site: (Path(root) / site).resolve() for site in sites} if root is not None else {}
    return {site: folder for site, folder in found.items() if folder.is_dir()}


def _check(arguments: Sequence[str], built: Built) -> int:
    """Looks whether a site can train and whether it reaches its server; prints what it finds."""
    from fedlight.deploy.processes import healthy
    from fedlight.deploy.site import Site, versions

    parser = Arguments("fedlight deploy check", "Look whether the folder of a site or of a server is ready.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    node, connection = Node.read(folder)
    sys.stdout.write(f"{node.site}: {versions()}\n")
    site = Site(node, built)
    sys.stdout.write(f"{node.site}: data and settings work; {site.num_samples} training cases\n")
    site.close()
    address = str(connection.get("superlink"))
    reached = healthy(address, folder / str(connection.get("certificate")))
    said = "answers and is who it should be" if reached else "cannot be reached, or is not that of the certificate"
    sys.stdout.write(f"{node.site}: the server at {address} {said}\n")
    return 0 if reached else 1


def _worker(arguments: Sequence[str], built: Built) -> int:
    """Is what a node starts to work; nobody types it."""
    from fedlight.deploy.worker import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the node, whose end ends this too
    serve(Path(arguments[0]), built)
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str], Any], int]] = {"init": _init, "check": _check, "worker": _worker}
