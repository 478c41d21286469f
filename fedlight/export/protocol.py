"""How a model was trained, from the run's own config and record: rows of a model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from fedlight import __version__
from fedlight.document import Table
from fedlight.export.record import Record

UNKNOWN = "unknown"

_FEDERATION = (
    *("rounds", "local_epochs", "local_steps", "cohort", "sampling", "schedule", "min_sites", "weighting", "buffers"),
    *("optimizer_state", "uplink", "downlink", "evaluate_every", "patience"),
)
_MODEL = (
    *("architecture", "encoder", "norm", "dice_weight", "cross_entropy_weight", "batch_dice", "optimizer"),
    *("scheduler",),
)
_DATA = (
    *("batch_size", "image_size", "patch_size", "normalise", "transforms", "foreground_patches", "val_fraction"),
    *("test_fraction", "pooled", "axis", "intensity_window", "spacing", "context", "foreground_slices"),
)


def protocol(record: Record) -> Table:
    """Lists what was decided before training, what of it was done and with which versions; no path is in it."""
    return Table(("setting", "value"), tuple(_rows(record)))


def selection(record: Record) -> str:
    """Says why the model is that of its round."""
    score = next((row.get("mean_dice") for row in record.rounds if row["round"] == record.round), None)
    there = "" if score is None else f" (mean validation Dice {score:.4f})"
    rule = _group(record.config, "federation").get("select")
    if score is None and record.which == "selected" and rule != "last":
        return f"The model is that of round {record.round}, the newest; its validation scores are {UNKNOWN}."
    if record.which == "last" or rule == "last":
        return f"The model is that of the last round, {record.round}{there}; no score chose it."
    if rule is None:
        return f"The model is that of round {record.round}{there}, chosen by a rule that is {UNKNOWN}."
    return (
        f"The model is that of round {record.round}{there}: the round with the highest mean validation Dice over the "
        "sites that train. Institutions that took no part had no say in it."
    )


def is_pooled(record: Record) -> bool:
    """Says whether one client had the images of all sites, which is no federation."""
    return bool(_group(record.config, "data").get("pooled"))


def named(part: Any) -> str:
    """Says a class of a config with its settings; those that are off are left out.

    >>> named({"class_path": "a.FedProx", "init_args": {"mu": 0.01, "over": None}}), named([]), named("b.MixStyle")
    ('FedProx (mu 0.01)', 'none', 'MixStyle')
    >>> named({"class_path": "torch.optim.Adam", "init_args": {"betas": [0.9, 0.99], "fused": False}})
    'Adam (betas [0.9, 0.99])'
    """
    if isinstance(part, list | tuple):
        return ", ".join(map(named, part)) or "none"
    if isinstance(part, Mapping) and "class_path" in part:
        settings = [f"{name} {_inner(value)}" for name, value in (part.get("init_args") or {}).items() if _is_on(value)]
        name = str(part["class_path"]).rpartition(".")[2]
        return f"{name} ({', '.join(settings)})" if settings else name
    if isinstance(part, str):
        return part.rpartition(".")[2] if "/" not in part else "a file"
    return "none" if part is None else str(part)


def _inner(value: Any) -> str:
    return f"[{named(value)}]" if isinstance(value, list | tuple) else named(value)


def _is_on(value: Any) -> bool:
    return value is not None and value is not False


def _rows(record: Record) -> Iterator[tuple[str, str]]:
    federation = _group(record.config, "federation")
    yield "method", str(record.facts.get("method") or UNKNOWN)
    for name in ("aggregator", "plugins"):
        yield name, named(federation[name]) if name in federation else UNKNOWN
    for group, names in (("federation", _FEDERATION), ("model", _MODEL), ("data", _DATA)):
        yield from _settings(_group(record.config, group), names)
    yield "seed", str(record.config.get("seed_everything", UNKNOWN))
    yield "rounds done", _done(record)
    yield "trained with", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield "exported with", f"fedlight {__version__}, torch {torch.__version__}"
    yield "commit of fedlight", ", then ".join(record.facts.get("commits") or [UNKNOWN])


def _settings(group: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    over = {"local_epochs"} if group.get("local_steps") is not None else set()  # steps are in their place
    return ((name, named(group[name])) for name in names if group.get(name) is not None and name not in over)


def _group(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns the settings of a group, of a class those of its constructor."""
    found = config.get(name) or {}
    return found.get("init_args", found) if isinstance(found, Mapping) else {}


def _done(record: Record) -> str:
    worked = {row["round"] for row in record.rows if row["kind"] == "fit"}
    planned, status = record.facts.get("rounds", UNKNOWN), record.facts.get("status", UNKNOWN)
    failures = sum(row["kind"] == "failure" for row in record.rows)
    return f"{max(worked, default=0)} of {planned}; the run is {status}; {failures} failures of sites"
