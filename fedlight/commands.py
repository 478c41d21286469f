"""The small commands: ``fedlight plugins``, ``data``, ``report`` and others; and ``benchmark``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fedlight import light
from fedlight.arguments import Arguments, data_of
from fedlight.method_cards import show_card, show_list
from fedlight.method_pages import write_pages
from fedlight.plugins.discovery import discover
from fedlight.preparation import ConfigError

if TYPE_CHECKING:
    from fedlight.data.case_sites import CaseSites


def plugins(arguments: Sequence[str]) -> int:
    """Lists every method, prints the card of one, or writes the pages of all."""
    parser = Arguments("fedlight plugins", "List methods, explain one, or write a page for each.")
    parser.add_argument("name", nargs="?", help="a plugin or recipe to explain")
    parser.add_argument("--load", action="append", default=[], metavar="FILE", help="a file with plugins of your own")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write a page for each of fedlight's own methods")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        discover(chosen.load)
        with console.capture() as shown:
            if chosen.write is not None:
                write_pages(chosen.write)
            elif chosen.name is not None:
                show_card(console, chosen.name)
            else:
                show_list(console)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in shown.get().splitlines())  # tables pad their cells
    return 0


DATA = ("check", "list", "info", "prepare")
"""What ``fedlight data`` can do."""


def data(arguments: Sequence[str]) -> int:
    """Looks at a folder of sites, or lists, explains and prepares public data sets."""
    from fedlight.assist import datasets

    parser = Arguments(
        "fedlight data",
        "check: look at data before any training. list, info, prepare: public data sets. See also fedlight data check "
        "--help, and so on.",
    )
    parser.add_argument("command", choices=DATA)
    command = parser.parse_args(arguments[:1]).command
    known = {"check": _check, "list": datasets.list_all, "info": datasets.info, "prepare": datasets.prepare}
    return known[command](arguments[1:])


def _check(arguments: Sequence[str]) -> int:
    """Looks at a folder of sites before any training; exit code 2 if it cannot be trained on."""
    from fedlight.data.check import check, render
    from fedlight.data.contact_sheet import contact_sheet

    parser = Arguments("fedlight data check", "Look at data before any training.")
    parser.add_argument("root", nargs="?", help="folder with one folder a site, each with images/ and masks/")
    parser.add_argument("-c", "--config", type=Path, help="check the data of a config, as fit would")
    parser.add_argument("--held_out", nargs="+", help="sites that take no part")
    parser.add_argument("--classes", nargs="+", default=["background", "foreground"], help="names, background first")
    parser.add_argument("--channels", type=int, default=3, choices=[1, 3])
    parser.add_argument("--mask_values", type=_mask_values, help="value=class pairs, e.g. 0=0,128=1,255=2")
    parser.add_argument("--mask_threshold", type=int, help="binary masks: values from here on are foreground")
    parser.add_argument("--group", help="regular expression whose match is the patient")
    parser.add_argument("--splits", help="a splits.csv")
    parser.add_argument(
        "--output", type=Path, default=Path("contact_sheet.png"), help="where to draw the contact sheet"
    )
    chosen = parser.parse_args(arguments)
    if not chosen.output.parent.is_dir():
        raise ConfigError(f"--output must lie in a folder that exists, got {chosen.output}. Make the folder first.")
    if (chosen.root is None) == (chosen.config is None):
        raise ConfigError("data check takes a root or a config (-c), not both. For instance: fedlight data check ROOT.")
    module = data_of([chosen.config]) if chosen.config else _folders(chosen)
    report = check(module)
    Console().print(render(report))
    if report.sites:
        contact_sheet(module, chosen.output)
        Console().print(f"Contact sheet: {chosen.output}", highlight=False)
    return 0 if report.passed else 2


def _folders(chosen: argparse.Namespace) -> CaseSites:
    from fedlight.data import FolderSites

    return FolderSites(
        root=chosen.root,
        image_size=256,  # reading needs a grid; sizes are those of the files
        held_out=chosen.held_out,
        classes=chosen.classes,
        channels=chosen.channels,
        mask_values=chosen.mask_values,
        mask_threshold=chosen.mask_threshold,
        group=chosen.group,
        splits=chosen.splits,
    )


def _mask_values(text: str) -> dict[int, int]:
    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        return {int(value): int(index) for value, index in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be value=class pairs such as 0=0,255=1, got {text}") from error


def benchmark(arguments: Sequence[str]) -> int:
    """Trains every algorithm with every site held out in turn."""
    from fedlight.benchmark.command import benchmark as command

    return command(arguments)


def report(arguments: Sequence[str]) -> int:
    """Writes what a benchmark found as a page, Markdown, LaTeX tables and figures."""
    from fedlight.benchmark.report.command import report as command

    return command(arguments)


def init(arguments: Sequence[str]) -> int:
    """Looks at somebody's folders and writes a first config."""
    from fedlight.assist.begin import init as command

    return command(arguments)


def schema(arguments: Sequence[str]) -> int:
    """Prints a JSON schema of configs, for editors."""
    from fedlight.assist.schema import schema as made

    parser = Arguments("fedlight schema", "Print a JSON schema of configs, for editors.")
    parser.add_argument("--load", action="append", default=[], metavar="FILE", help="a file with plugins of your own")
    try:
        discover(parser.parse_args(arguments).load)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    sys.stdout.write(json.dumps(made(), indent=1) + "\n")
    return 0


def completion(arguments: Sequence[str]) -> int:
    """Prints a script with which a shell completes commands and settings."""
    from fedlight.assist.completion import SHELLS, script

    parser = Arguments("fedlight completion", "Print a script with which a shell completes commands and settings.")
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(arguments).shell
    discover()
    sys.stdout.write(script(shell, COMMANDS, FEDERATED))
    return 0


FEDERATED = ("fit", "validate", "test", "predict", "export", "styles", "privacy", "audit")
"""The commands that take a config, which ``fedlight.cli`` runs."""

COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "plugins": plugins,
    "data": data,
    "benchmark": benchmark,
    "report": report,
    "init": init,
    "schema": schema,
    "completion": completion,
    **light.COMMANDS,
}
