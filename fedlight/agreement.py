"""What a server and its sites must have in common before the first round, as hashes that each computes for itself."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fedlight
from fedlight.plugins import Plugin
from fedlight.preparation import flat

Agreement = Mapping[str, str]

OWN = (
    # what every machine may settle for itself: where data lies, what it computes with, where the record goes
    "load",
    "data.init_args.root",
    "data.init_args.sites",
    "data.init_args.splits",
    "data.init_args.num_workers",
    "data.init_args.cache_gb",
    "trainer.accelerator",
    "federation.executor",
    "federation.trackers",
    "federation.run_folder",
    "federation.rounds",
    "federation.share_cases",
)
"""Settings that are no part of an agreement, by the beginnings of their names."""


def agreement(config: Mapping[str, Any], plugins: Sequence[Plugin]) -> dict[str, str]:
    """Returns version, and hashes of the files of the client plugins and of every section of a resolved config."""
    settings = {name: value for name, value in flat(config).items() if not name.startswith(OWN)}
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        sections.setdefault(name.partition(".")[0], {})[name] = value
    files = sorted({Path(inspect.getfile(cls)) for plugin in plugins for cls in type(plugin).__mro__ if _is_ours(cls)})
    contents = {_hash(file.read_bytes()) for file in files}
    return {
        "version": fedlight.__version__,
        "plugins": _hash("".join(sorted(contents)).encode()),
        **{section: _hash(json.dumps(part, sort_keys=True).encode()) for section, part in sorted(sections.items())},
    }


def disagreement(here: Agreement, server: Agreement) -> str | None:
    """Says in one sentence in what a site and its server differ; None if in nothing."""
    if here.get("version") != server.get("version"):
        return f"fedlight is {here.get('version')} here and {server.get('version')} at the server. Install one version."
    if here.get("plugins") != server.get("plugins"):
        return "the files of the plugins differ from those at the server. Bring the same files to both."
    differing = [name for name in sorted({*here, *server}) if here.get(name) != server.get(name)]
    if differing:
        return f"the settings of {', '.join(differing)} differ from those at the server. Agree on one run.yaml."
    return None


def _is_ours(cls: type) -> bool:
    return issubclass(cls, Plugin)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
