"""What the small commands share: an argument parser whose errors are one sentence, and the data of composed configs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from rich.console import Console, RenderableType

from fedlight.configs import read_config
from fedlight.errors import ConfigError
from fedlight.messages import explain, parameters

if TYPE_CHECKING:
    from fedlight.data.case_sites import CaseSites


class Arguments(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, and that takes no abbreviations."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises ``ConfigError`` with the way to the help."""
        raise ConfigError(f"{message}. See {self.prog} --help.")


def show(what: RenderableType) -> None:
    """Writes something to standard output, without the spaces that tables put behind their lines."""
    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as shown:
        console.print(what)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in shown.get().splitlines())
    sys.stdout.flush()


def data_of(configs: Sequence[Path], overrides: Sequence[str] = ()) -> CaseSites:
    """Builds the data module that composed configs describe, without anything else of a run.

    Args:
        configs: Files, later ones win.
        overrides: Settings as on the command line: "--data.root", "somewhere", ...; others than of data are ignored.

    Raises:
        ConfigError: If they do not describe one.
    """
    settings: dict[str, Any] = {}
    for path in configs:
        settings = merged(settings, read_config(path).get("data") or {})
    return data_from(settings, overrides, " and ".join(map(str, configs)))


def data_from(settings: Mapping[str, Any], overrides: Sequence[str], named: str) -> CaseSites:
    """Builds the data module that settings describe.

    Args:
        settings: The group ``data`` of a config.
        overrides: See ``data_of``.
        named: Where the settings are from, for messages.

    Raises:
        ConfigError: If they do not describe one.
    """
    import jsonargparse

    import fedlight.data  # the modules that a config may name

    settings = _overridden(settings, overrides)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(fedlight.data.FederatedDataModule, "data", required=True)
    try:
        parsed = parser.parse_object({"data": settings or None})
    except (jsonargparse.ArgumentError, TypeError) as error:
        known = parameters([fedlight.data.FolderSites, fedlight.data.SyntheticSites])
        raise ConfigError(f"{named}: {explain(str(error), (), {'data': known})}") from error
    module: CaseSites = parser.instantiate_classes(parsed).data
    return module


def _overridden(settings: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    for name, value in zip(overrides[::2], overrides[1::2], strict=True):
        if name.startswith("--data."):
            parts = name.removeprefix("--data.").removeprefix("init_args.").split(".")
            tree = yaml.safe_load(value)
            for part in reversed(["init_args", *parts] if parts != ["class_path"] else parts):
                tree = {part: tree}
            settings = merged(settings, tree)
    return settings


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lays settings over others, group by group."""
    nested = {
        name: merged(base[name], value)
        for name, value in over.items()
        if isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
    }
    return {**base, **over, **nested}
