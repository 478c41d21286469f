"""What a job leaves behind: ``cases.csv`` and ``job.json``, made from its run folder."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import fedlight
from fedlight.benchmark.layout import FORMAT, KEYS
from fedlight.benchmark.plan import Job
from fedlight.checkpoint import RunFolder
from fedlight.origin import commit
from fedlight.preparation import flat
from fedlight.serialization import write_bytes
from fedlight.tracking.jsonl import read_rows
from fedlight.tracking.rows import cell

_FILES = {
    ("held-out", "best"): "held_out_cases.csv",
    ("held-out", "last"): "held_out_cases_last.csv",
    ("in-federation", "best"): "test_cases.csv",
    ("in-federation", "last"): "test_cases_last.csv",
}
_PACKAGES = ("torch", "lightning", "segmentation-models-pytorch", "torchmetrics", "monai", "albumentations", "numpy")
_NOT_SETTINGS = ("data.init_args.root", "federation.run_folder", "federation.threads", "load")
_DIGITS = 5
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a job took, in seconds."""

    wall: float
    processor: float


def record(
    job: Job, fingerprint: str, commands: Sequence[Sequence[str]], threads: int, spent: Spent, reason: str = ""
) -> dict[str, Any]:
    """Returns what is known of every job, also of one that failed.

    Args:
        job: The job.
        fingerprint: Of what it was asked to do.
        commands: What to type to run it again.
        threads: Threads that it had.
        spent: What it took.
        reason: Why it failed; empty if it did not.
    """
    return {
        "format": FORMAT,
        "arm": job.arm.name,
        "held_out": list(job.held_out),
        "seed": job.seed,
        "status": "failed" if reason else "ok",
        "reason": reason,
        "fingerprint": fingerprint,
        "commands": [shlex.join(command) for command in commands],
        "fedlight": fedlight.__version__,
        "commit": commit(),
        "versions": {package: version(package) for package in _PACKAGES},
        "python": platform.python_version(),
        "machine": {"cores": os.cpu_count() or 1, "threads": threads},
        "seconds": round(spent.wall, 1),
        "processor_seconds": round(spent.processor, 1),
    }


def of_run(folder: Path, distance_unit: str) -> dict[str, Any]:
    """Returns what a finished run says of itself: selection, sites, network, settings and learning curve."""
    rows = read_rows(folder)
    rounds = [row for row in rows if row["kind"] == "round"]
    settings = flat(RunFolder(folder).config())
    tested = [row for row in rows if row["kind"] == "test" and row["split"] == "held-out"]
    return {
        "selected_round": max((row["round"] for row in rounds if row["selected"]), default=0),
        "rounds": len(rounds),
        "sites": sorted({row["site"] for row in rows if row["kind"] == "fit"}),
        "num_parameters": _num_parameters(RunFolder(folder).last),
        "num_samples": {row["site"]: row["samples"] for row in rows if row["kind"] == "fit"},
        "classes": _classes(tested),
        "distance_unit": distance_unit,
        "settings": {name: value for name, value in settings.items() if name not in _NOT_SETTINGS},
        "curve": list(_curve(rows)),
    }


def cases_of(folder: Path) -> list[dict[str, str]]:
    """Returns the scores of all cases of a run, of both models, numbers with five decimals."""
    rows = []
    for (domain, checkpoint), name in _FILES.items():
        path = folder / name
        for row in read_table(path) if path.is_file() else ():
            keys = {"domain": domain, "checkpoint": checkpoint, **{key: row[key] for key in KEYS[2:]}}
            rows.append({**keys, **{key: _short(value) for key, value in row.items() if key not in keys}})
    return _without_single_class(rows)


def write_result(folder: Path, record: Mapping[str, Any], cases: Sequence[Mapping[str, str]]) -> None:
    """Writes a result; the record comes last and makes it count."""
    folder.mkdir(parents=True, exist_ok=True)
    if cases:
        write_bytes(folder / "cases.csv", _as_csv(cases).encode())
    write_bytes(folder / "job.json", (json.dumps(dict(record), indent=1) + "\n").encode())


def read_record(folder: Path) -> dict[str, Any] | None:
    """Returns the record of a result, or None where there is none or it is damaged."""
    try:
        found = json.loads((folder / "job.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _curve(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    megabytes = 0.0
    losses: list[float] = []
    for row in rows:
        if row["kind"] == "fit" and row.get("train_loss") is not None:
            losses.append(row["train_loss"])
        if row["kind"] == "round":
            megabytes += (row["bytes_up"] + row["bytes_down"] + row.get("bytes_evaluate", 0)) / 1e6
            yield {
                "round": row["round"],
                "val_dice": _rounded(row.get("mean_dice")),
                "worst_dice": _rounded(row.get("worst_dice")),
                "train_loss": _rounded(fmean(losses)) if losses else None,
                "megabytes": round(megabytes, 3),
            }
            losses = []


def _num_parameters(checkpoint: Path) -> int:
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return sum(value.numel() for name, value in saved.items() if not name.endswith(BUFFERS))


def _classes(tested: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in tested for name in row if name.startswith("dice/"))
    return ["background", *(name.removeprefix("dice/") for name in names)]


def _without_single_class(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Leaves out the columns by class where there is one class only: they repeat the others."""
    classes = {name.partition("/")[2] for row in rows for name in row if "/" in name}
    if len(classes) > 1:
        return rows
    return [{name: value for name, value in row.items() if "/" not in name} for row in rows]


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file as they are written."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _short(value: str) -> str:
    return cell(round(float(value), _DIGITS)) if value else ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _as_csv(cases: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    names = list(dict.fromkeys(name for case in cases for name in case))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cases)
    return text.getvalue()
