"""A finished run of a job, made again from its folder: federation, task and data, without the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonargparse

from fedlight.arguments import data_from
from fedlight.checkpoint import RunFolder
from fedlight.configs import read_config
from fedlight.data.case_sites import CaseSites
from fedlight.federation import Federation
from fedlight.plugins.discovery import discover
from fedlight.preparation import ConfigError
from fedlight.tasks.federated_module import FederatedModule

_NOT_BUILT = ("trackers", "executor")  # what would record or run rounds
_GIVEN = {"seed", "trainer", "config", "console"}  # arguments that are no settings of the group


@dataclass(frozen=True, slots=True)
class Reopened:
    """A run as it was configured, with nothing read yet but its config.

    Attributes:
        folder: Where it lies.
        federation: Its aggregator and plugins.
        task: Its task; the network is not built.
        data: Its data; runs with equal settings of data share one, so that images are read once.
    """

    folder: RunFolder
    federation: Federation
    task: FederatedModule
    data: CaseSites


def reopen(folder: RunFolder, places: Sequence[str]) -> Reopened:
    """Makes the parts of a run from the config in its folder.

    Args:
        folder: The run.
        places: Settings that may have changed since, as on the command line: where data lie and how they are read.

    Raises:
        ConfigError: If the config is damaged or names what is not there any more.
    """
    path = folder.path / "config.yaml"
    config = read_config(path)
    _load(config["load"])
    data = _data(json.dumps(config.get("data") or {}, sort_keys=True), tuple(places), str(path))
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FederatedModule, "model", required=True)
    parser.add_class_arguments(Federation, "federation", skip=_GIVEN, instantiate=False)
    try:
        made = parser.instantiate_classes(parser.parse_object(_settings(config)))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path} must be the config of a run, got one that cannot be built: {reason}") from error
    federation = Federation(**made.federation.as_dict(), seed=config.get("seed_everything", 0), console=False)
    return Reopened(folder, federation, made.model, data)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    federation = config.get("federation") or {}
    kept = {name: value for name, value in federation.items() if name not in _NOT_BUILT}
    return {"model": config.get("model"), "federation": kept}


@lru_cache(maxsize=1)  # jobs come site by site, and most arms of a site have the same data
def _data(settings: str, places: tuple[str, ...], named: str) -> CaseSites:
    return data_from(json.loads(settings), places, named)


_loaded: dict[str, Path] = {}
"""Files with plugins by their names: every run folder has a copy, and a process needs one."""


def _load(files: Sequence[str]) -> None:
    try:
        discover([_loaded.setdefault(Path(file).stem, Path(file)) for file in files])
    except ValueError as error:
        raise ConfigError(str(error)) from error
