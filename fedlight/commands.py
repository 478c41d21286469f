"""The commands that train nothing: ``fedlight plugins``, ``fedlight data`` and ``fedlight report``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.table import Table

from fedlight.configs import read_config
from fedlight.plugins.discovery import discover, find, registered
from fedlight.preparation import ConfigError

if TYPE_CHECKING:
    from fedlight.data.case_sites import CaseSites


class _Arguments(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See {self.prog} --help.")


def plugins(arguments: Sequence[str]) -> int:
    """Lists every plugin that a config can name, or prints one plugin's card."""
    parser = _Arguments(prog="fedlight plugins", description="List plugins, or explain one.")
    parser.add_argument("name", nargs="?", help="a plugin to explain")
    parser.add_argument("--load", action="append", default=[], metavar="FILE", help="a file with plugins of your own")
    chosen = parser.parse_args(arguments)
    try:
        discover(chosen.load)
        info = None if chosen.name is None else find(chosen.name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if info is None:
        Console().print(_listing())
        return 0
    Console().print(f"{info.name} ({info.kind}, from {info.origin})\n\n{info.card}", markup=False, highlight=False)
    return 0


def _listing() -> Table:
    table = Table("Kind", "Name", "What it does", "Paper", "From", box=None, pad_edge=False)
    for info in sorted(registered(), key=lambda info: (info.kind, info.name)):
        table.add_row(info.kind, info.name, info.summary, ", ".join(info.papers), info.origin)
    return table


def data(arguments: Sequence[str]) -> int:
    """Looks at a folder of sites before any training; exit code 2 if it cannot be trained on."""
    from fedlight.data.check import check, render
    from fedlight.data.contact_sheet import contact_sheet

    parser = _Arguments(prog="fedlight data", description="Look at data before any training.")
    parser.add_argument("command", choices=["check"])
    parser.add_argument("root", nargs="?", help="folder with one folder a site, each with images/ and masks/")
    parser.add_argument("-c", "--config", type=Path, help="check the data of a config, as fit would")
    parser.add_argument("--held_out", help="the site that takes no part")
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
    module = _configured(chosen.config) if chosen.config else _folders(chosen)
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


def _configured(path: Path) -> CaseSites:
    """Builds the data module of a config."""
    import jsonargparse

    import fedlight.data  # the modules that a config may name

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(fedlight.data.FederatedDataModule, "data", required=True)
    try:
        parsed = parser.parse_object({"data": read_config(path).get("data")})
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    module: CaseSites = parser.instantiate_classes(parsed).data
    return module


def _mask_values(text: str) -> dict[int, int]:
    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        return {int(value): int(index) for value, index in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be value=class pairs such as 0=0,255=1, got {text}") from error


def report(arguments: Sequence[str]) -> int:
    """Writes the report of a benchmark."""
    parser = _Arguments(prog="fedlight report", description="Report what a benchmark found.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="outputs of fedlight benchmark")
    parser.add_argument("--output", type=Path, help="where to write; default: FOLDER/report")
    parser.add_argument("--reference", default="fedavg", help="the arm that all others are compared with")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last"], help="which round's model is scored")
    parser.add_argument("--title", help="of the page")
    parser.add_argument("--no_pictures", action="store_true", help="leave out images of patients beside the results")
    chosen = parser.parse_args(arguments)
    try:
        from fedlight.benchmark.report.report import write_report
        from fedlight.benchmark.scores import ResultsError
    except ModuleNotFoundError as error:
        missing = f"a report needs {error.name}, which is not installed"
        raise ConfigError(f"{missing}. Install it with: pip install fedlight[report]") from error
    output = chosen.output or chosen.folders[0] / "report"
    choices = (chosen.reference, chosen.checkpoint, chosen.title, not chosen.no_pictures)
    try:
        said = write_report(chosen.folders, output, *choices)
    except ResultsError as error:
        raise ConfigError(str(error)) from error
    for sentence in said:
        Console().print(sentence, markup=False, highlight=False, soft_wrap=True)
    return 0


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"plugins": plugins, "data": data, "report": report}
