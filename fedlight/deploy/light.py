"""The commands under ``fedlight deploy`` that start and watch Flower's programs; they need no torch."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from fedlight.deploy import server
from fedlight.deploy.node import DeployError, Node
from fedlight.errors import say


def light(arguments: Sequence[str]) -> int | None:
    """Runs one of these commands.

    Returns:
        The exit code: 0, 1 for a failed run, 2 for a mistake, 130 or 143 if interrupted; None for other commands.
    """
    if arguments and arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0
    if not arguments or not _is_light(arguments):
        return None
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        if find_spec("flwr") is None:
            raise DeployError(MISSING)
        from fedlight.deploy.processes import FlowerError

        try:
            return COMMANDS[arguments[0]](arguments[1:])
        except FlowerError as error:
            return say(error, 1)
    except DeployError as error:
        return say(error, 2)
    except _Terminated:
        return say("asked to end (SIGTERM)", 143)
    except KeyboardInterrupt:
        return say("interrupted", 130)
    finally:
        signal.signal(signal.SIGTERM, before)


HELP = """usage: fedlight deploy COMMAND FOLDER ...

  init   write a kit, a folder for the server and one for every site:  fedlight deploy init kit -c CONFIG
  check  look whether a site, or a server and its nodes, are ready:    fedlight deploy check kit/server
  serve  run the server until it is ended:                             fedlight deploy serve kit/server
  node   run a site's node until it is ended:                          fedlight deploy node kit/sites/SITE
  run    fit, validate or test, from the server's folder:              fedlight deploy run kit/server fit

fedlight deploy COMMAND --help says more; docs/deploy.md takes a consortium through all of it.
"""

MISSING = "fedlight deploy needs Flower, which is not installed. Get it with: pip install 'fedlight[flower]'."


class _Terminated(KeyboardInterrupt):
    pass


def _terminate(number: int, frame: object) -> NoReturn:
    raise _Terminated


class _Arguments(argparse.ArgumentParser):
    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=f"fedlight deploy {name}", description=description, allow_abbrev=False)
        self.add_argument("folder", type=Path)

    def error(self, message: str) -> NoReturn:
        raise DeployError(f"{message}. See {self.prog} --help.")


def _is_light(arguments: Sequence[str]) -> bool:
    """Says whether a command needs no torch; a site's folder is checked with its data, a server's is not."""
    if arguments[0] == "check":
        return any((Path(each) / "server.yaml").is_file() for each in arguments[1:2])
    return arguments[0] in COMMANDS


def _serve(arguments: Sequence[str]) -> int:
    from fedlight.deploy.processes import ServerFolder, serve

    parser = _Arguments("serve", "Run a server's SuperLink until it is ended.")
    parser.add_argument("--host", help="address to listen on, in place of that in server.yaml")
    chosen = parser.parse_args(arguments)
    return serve(ServerFolder.read(chosen.folder), chosen.host)


def _node(arguments: Sequence[str]) -> int:
    from fedlight.deploy.processes import attend

    parser = _Arguments("node", "Run a site's SuperNode until it is ended.")
    parser.add_argument(
        "--wait", metavar="SECONDS", default=30.0, type=float, help="to be let in; default: %(default)g"
    )
    chosen = parser.parse_args(arguments)
    return attend(*Node.read(chosen.folder), chosen.wait)


def _run(arguments: Sequence[str]) -> int:
    from fedlight.deploy.processes import ServerFolder, run

    parser = _Arguments("run", "Train or score a federation from its server's folder; settings follow as for fit.")
    parser.add_argument("command", nargs="?", default="fit", choices=server.COMMANDS)
    chosen, settings = parser.parse_known_args(arguments)
    return run(ServerFolder.read(chosen.folder), chosen.command, settings)


def _check(arguments: Sequence[str]) -> int:
    from fedlight.deploy.processes import ServerFolder, run

    parser = _Arguments("check", "Look whether all nodes are there and agree; settings follow as for fit.")
    parser.add_argument("--wait", metavar="SECONDS", help="for nodes; left out, those of the executor in run.yaml")
    chosen, settings = parser.parse_known_args(arguments)
    asked = [] if chosen.wait is None else ["--wait", chosen.wait]
    server.waiting(asked)
    return run(ServerFolder.read(chosen.folder), "check", [*asked, *settings])


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "serve": _serve,
    "node": _node,
    "run": _run,
    "check": _check,
}
