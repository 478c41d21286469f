"""The half of the Flower app that runs at the server: fedlight's own command line, with a grid for its messages.

Which folder it works in is in the environment of the SuperLink and never in a message; which command it runs is in the
configuration of the Flower run. What it prints goes to a file of the folder too, and its exit code into another, so
that whoever started the run learns how it ended.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fedlight.deploy.node import RUN, DeployError

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

    from fedlight.executors.flower import Greeting

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


def waiting(settings: Sequence[str]) -> tuple[float | None, list[str]]:
    """Takes ``--wait SECONDS`` from the settings of a check; the others follow as for fit.

    Raises:
        DeployError: If it is no number of seconds.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--wait")
    chosen, others = parser.parse_known_args(settings)
    if chosen.wait is None:
        return None, others
    try:
        wait = float(chosen.wait)
    except ValueError:
        wait = math.nan
    if not 0 < wait < math.inf:
        raise DeployError(f"--wait must be seconds above 0, got {chosen.wait}. For a minute, use 60.")
    return wait, others


def _run(folder: Path, command: str, settings: Sequence[str], run: Run, built: Built) -> int:
    if command == "check":
        wait, settings = waiting(settings)
        return check(built(["fit", "-c", str(folder / RUN), *settings]), wait)
    where = ["--federation.run_folder", str(runs(folder))]
    if command == "fit":
        return run(["fit", "-c", str(folder / RUN), "--ckpt_path", "last", *where, *settings])
    if command not in COMMANDS:
        sys.stderr.write(f"fedlight: a federation runs {', '.join(COMMANDS)}, got {command}.\n")
        return 2
    from fedlight.checkpoint import newest

    return run([command, "--run", str(newest(runs(folder))), *settings])


def check(parts: tuple[Any, Any, Any], wait: float | None = None) -> int:
    """Asks every node whether it is there, agrees and can train; prints a line for each as soon as it answers.

    Args:
        parts: The federation, its task and its data.
        wait: Seconds to wait for nodes; the executor's if left out.

    Returns:
        The exit code: 0 if all are ready, else 1.
    """
    from fedlight.agreement import agreement
    from fedlight.preparation import prototypes

    federation, _, data = parts
    executor = federation.executor
    executor.wait = executor.wait if wait is None else wait
    held_out = list(data.held_out_sites)
    names = [*executor.sees(data).sites, *held_out]
    plugins = prototypes(federation.aggregator, federation.plugins)[1]
    _line(f"waiting up to {executor.wait:g} s for {', '.join(names)}")
    agreed = json.dumps(agreement(federation.config, plugins))
    greetings = executor.meet(names, agreed, lambda greeting: _line(f"{greeting.site}: {_state(greeting)}"))
    for name in names:
        if name not in greetings:
            aside = " (held out: training can do without it, test cannot score it)" if name in held_out else ""
            _line(f"{name}: not connected within {executor.wait:g} s{aside}")
    ready = sum(not greeting.problem for greeting in greetings.values())
    _line(f"{ready} of {len(names)} nodes are ready")
    return 0 if ready == len(names) else 1


def _state(greeting: Greeting) -> str:
    return greeting.problem or f"ready; {greeting.num_samples} training cases; {greeting.versions}"


def _line(text: str) -> None:
    """Prints a line that is seen at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


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
