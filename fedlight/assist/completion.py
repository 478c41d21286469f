"""Completion of commands and settings in the shell, written by shtab."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fedlight.assist.schema import schema
from fedlight.errors import ConfigError
from fedlight.federation import Federation

SHELLS = ("bash", "zsh", "tcsh")

Command = Callable[[Sequence[str]], int]

PARTS: Mapping[str, Sequence[str]] = {
    "data": ("check", "list", "info", "prepare"),
    "deploy": ("init", "check", "serve", "node", "run"),
}
"""Commands that are several."""

_LEFT_TO_THE_CLI = ("self", "model", "datamodule")

_FILES = ("--config", "--run", "--compare", "--input", "--output", "--ckpt_path", "--load", "--splits", "--folder")
_FOLDERS = ("--source", "--root")


def script(shell: str, commands: Mapping[str, Command], federated: Sequence[str]) -> str:
    """Returns the script that a shell reads.

    Args:
        shell: One of ``SHELLS``.
        commands: The small commands; what options they have is read from their help.
        federated: The commands that take a config; what options they have is read from the methods of ``Federation``.

    Raises:
        ConfigError: If shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise ConfigError(
            "completion needs shtab, which is not installed. Get it with: pip install 'fedlight[shell]'."
        ) from error
    parser = argparse.ArgumentParser("fedlight")
    below = parser.add_subparsers()  # shtab leaves out what has no help
    settings = list(options(schema()))
    for name in federated:
        _add(below.add_parser(name, help=name), [*arguments(name), *settings])
    for name, command in commands.items():
        parts = PARTS.get(name, ())
        found = below.add_parser(name, help=name)
        if parts:
            found.add_argument("command", choices=parts)
        helped = {each for words in ([[part] for part in parts] or [[]]) for each in _helped(command, words)}
        _add(found, [(each, ()) for each in sorted(helped)])
    below.add_parser("deploy", help="deploy").add_argument("command", choices=PARTS["deploy"])
    return str(shtab.complete(parser, shell))


def arguments(command: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields what a command that takes a config takes beside its settings, with values where these are few."""
    for name in ("config", "print_config", "seed_everything", "load"):
        yield f"--{name}", ()
    if command != "fit":  # it begins a run, and goes on with one through ckpt_path
        yield "--run", ()
    method = getattr(Federation, command)
    types = get_type_hints(method)
    for name in inspect.signature(method).parameters:
        if name not in _LEFT_TO_THE_CLI:
            yield f"--{name}", _choices(types[name])


def _choices(kind: Any) -> list[str]:
    """Returns the values that a type allows where it names them.

    >>> _choices(Literal["a", "b"] | None), _choices(bool), _choices(str)
    (['a', 'b'], ['true', 'false'], [])
    """
    if kind is bool:
        return ["true", "false"]
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [value for each in get_args(kind) for value in _choices(each)]


def options(known: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields the settings of a config's schema as options, with the values that they can take where these are few."""
    for group in ("data", "model", "federation", "trainer"):
        part = known["properties"][group]
        if "oneOf" in part:
            yield f"--{group}", _names(part)
        for name, found in _arguments(part).items():
            yield f"--{group}.{name}", _values(found)


def _arguments(part: Mapping[str, Any]) -> dict[str, Any]:
    classes = [each["properties"].get("init_args", {}) for each in part.get("oneOf", ()) if "properties" in each]
    return {name: found for each in (*classes, part) for name, found in each.get("properties", {}).items()}


def _values(found: Mapping[str, Any]) -> list[str]:
    values = [str(value) for value in found.get("enum", ())] + _names(found)
    values += ["true", "false"] if found.get("type") == "boolean" else []
    inner = [*found.get("anyOf", ()), *([found["items"]] if "items" in found else [])]
    return list(dict.fromkeys([*values, *(value for each in inner for value in _values(each))]))


def _names(found: Mapping[str, Any]) -> list[str]:
    return [name for each in found.get("oneOf", ()) for name in each.get("examples", ())]


def _helped(command: Command, words: Sequence[str]) -> list[str]:
    """Returns the long options that the help of a command, or of a part of it, shows."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit, ConfigError):
        command([*words, "--help"])
    return sorted(set(re.findall(r"^ +(?:-\w[^,\n]*, )?(--\w+)", shown.getvalue(), re.MULTILINE)) - {"--help"})


def _add(parser: argparse.ArgumentParser, found: Sequence[tuple[str, Sequence[str]]]) -> None:
    import shtab

    for name, values in dict(found).items():
        names = ["-c", name] if name == "--config" else [name]
        action: Any = parser.add_argument(*names, choices=list(values) or None)
        if name in (*_FILES, *_FOLDERS) or name.endswith((".root", ".run_folder", ".splits", ".availability")):
            action.complete = shtab.FILE
