"""The half of the Flower app that runs at the server: fedlight's own command line, with a grid for its messages.

Which folder it works in is in the environment of the SuperLink and never in a message; which command it runs is in the
configuration of the Flower run. What it prints goes to a file of the folder too, and its exit code into another, so
that whoever started the run learns how it ended.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fedlight.deploy.node import RUN

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

FOLDER = "FEDLIGHT_SERVER"
"""Variable that names the server's folder."""

COMMANDS = ("fit", "validate", "test", "check")

Run = Callable[[Sequence[str]], int]
Built = Callable[[Sequence[str]], tuple[Any, Any, Any]]


class FederationFailedError(RuntimeError):
    """A command of the server ended with another exit code than 0."""


def server_app(run: Run, built: Built) -> ServerApp:
    """Returns what the SuperLink runs.

    Args:
        run: fedlight's command line; returns an exit code.
        built: Builds what a command line describes and runs nothing.
    """
    from flwr.serverapp import ServerApp

    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        from fedlight.executors.flower import driven

        folder = Path(os.environ[FOLDER])
        command, settings = str(context.run_config["command"]), shlex.split(str(context.run_config["settings"]))
        code = 1
        try:
            with _recorded(folder / "logs" / f"{context.run_id}.log"), driven(grid):
                code = _run(folder, command, settings, run, built)
        finally:
            outcome(folder, context.run_id).write_text(json.dumps({"command": command, "code": code}))
        if code:
            raise FederationFailedError(f"fedlight {command} ended with exit code {code}")

    app.main()(main)
    return app


def outcome(folder: Path, run_id: int | str) -> Path:
    """Returns the file in which the exit code of a run is."""
    return folder / "logs" / f"{run_id}.json"


def runs(folder: Path) -> Path:
    """Returns the name under which the server's runs lie."""
    return folder / "runs" / "run"


def _run(folder: Path, command: str, settings: Sequence[str], run: Run, built: Built) -> int:
    if command == "check":
        return check(built(["fit", "-c", str(folder / RUN), *settings]))
    where = ["--federation.run_folder", str(runs(folder))]
    if command == "fit":
        return run(["fit", "-c", str(folder / RUN), "--ckpt_path", "last", *where, *settings])
    if command not in COMMANDS:
        sys.stderr.write(f"fedlight: a federation runs {', '.join(COMMANDS)}, got {command}.\n")
        return 2
    from fedlight.checkpoint import newest

    return run([command, "--run", str(newest(runs(folder))), *settings])


def check(parts: tuple[Any, Any, Any]) -> int:
    """Asks every node whether it is there, agrees and can train; prints a line for each and returns the exit code."""
    from fedlight.agreement import agreement
    from fedlight.preparation import prototypes

    federation, _, data = parts
    executor = federation.executor
    names = [*executor.sees(data).sites, *data.held_out_sites]
    plugins = prototypes(federation.aggregator, federation.plugins)[1]
    greetings = executor.meet(names, json.dumps(agreement(federation.config, plugins)))
    for name in names:
        greeting = greetings.get(name)
        if greeting is None:
            said = f"not connected within {executor.wait:g} s"
        elif greeting.problem:
            said = greeting.problem
        else:
            said = f"ready; {greeting.num_samples} training cases; {greeting.versions}"
        sys.stdout.write(f"{name}: {said}\n")
    ready = sum(not greeting.problem for greeting in greetings.values())
    sys.stdout.write(f"{ready} of {len(names)} nodes are ready\n")
    return 0 if ready == len(names) else 1


@contextmanager
def _recorded(path: Path) -> Iterator[None]:
    """Writes what a block prints to a file too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1) as file:
        out, err = _Tee(sys.stdout, file), _Tee(sys.stderr, file)
        with redirect_stdout(out), redirect_stderr(err):
            yield


class _Tee(io.TextIOBase):
    def __init__(self, *files: TextIO) -> None:
        self._files = files

    def write(self, text: str) -> int:
        for file in self._files:
            file.write(text)
        return len(text)

    def flush(self) -> None:
        for file in self._files:
            file.flush()
