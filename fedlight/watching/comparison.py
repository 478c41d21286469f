"""Runs side by side: the settings that differ, then the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlight.configs import flat, read_settings
from fedlight.watching.listing import STYLES, best, number, rounds
from fedlight.watching.record import Record, read_record

_RUNS_A_TABLE = 3  # what fits 80 columns beside the names of settings
_NOT_COMPARED = ("federation.run_folder",)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs.

    Attributes:
        records: What their folders say.
        settings: Setting as on a command line -> its value in every run; None where a run does not have it.
    """

    records: Sequence[Record]
    settings: Mapping[str, Sequence[Any]]

    def plain(self) -> dict[str, Any]:
        """Returns plain values for a script."""
        return {"runs": [record.plain() for record in self.records], "settings": dict(self.settings)}


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs; the first one's settings come first.

    Raises:
        DamagedFileError: If a config cannot be read.
    """
    configs = [settings(read_settings(folder)) for folder in folders]
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name) for config in configs] for name in names if name not in _NOT_COMPARED}
    differing = {name: row for name, row in values.items() if any(value != row[0] for value in row[1:])}
    return Comparison([read_record(folder) for folder in folders], differing)


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by the names that they have on a command line, classes by their bare names.

    >>> settings({"model": {"class_path": "fedlight.tasks.SegmentationTask", "init_args": {"encoder": "plain-16"}}})
    {'model': 'SegmentationTask', 'model.encoder': 'plain-16'}
    """
    return {_name(name): _value(name, value) for name, value in flat(config).items()}


def render(comparison: Comparison) -> RenderableType:
    """Shows a comparison in tables of a few runs each, with the first run in all of them."""
    first, *others = range(len(comparison.records))
    steps = _RUNS_A_TABLE - 1
    groups = [[first, *others[start : start + steps]] for start in range(0, max(len(others), 1), steps)]
    return Group(*(part for group in groups for part in (_settings(comparison, group), "", _scores(comparison, group))))


def _settings(comparison: Comparison, group: Sequence[int]) -> RenderableType:
    rows = {name: [values[at] for at in group] for name, values in comparison.settings.items()}
    rows = {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
    if not rows:
        return Text("No setting differs.")
    table = _table("setting", comparison, group)
    for name, values in rows.items():
        table.add_row(Text(name), *(Text("-" if value is None else str(value)) for value in values))
    return table


def _scores(comparison: Comparison, group: Sequence[int]) -> Table:
    records = [comparison.records[at] for at in group]
    table = _table("score", comparison, group)
    table.add_row("status", *(Text(record.status, STYLES[record.status]) for record in records))
    table.add_row("rounds", *map(rounds, records))
    table.add_row("mean validation Dice (round)", *map(best, records))
    for site in dict.fromkeys(site for record in records for site in record.site_dice):
        table.add_row(Text(f"  {site}"), *(number(record.site_dice.get(site)) for record in records))
    table.add_row("Dice at held-out sites", *(number(record.held_out_dice) for record in records))
    table.add_row("MB a round", *(number(record.megabytes, 1) for record in records))
    return table


def _table(first: str, comparison: Comparison, group: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name in (labels([record.path for record in comparison.records])[at] for at in group):
        table.add_column(Text(name), overflow="fold")
    return table


def labels(paths: Sequence[str]) -> list[str]:
    """Names runs by the ends of their paths, as short as they differ.

    >>> labels(["runs/a/seed0", "runs/b/seed0"]), labels(["runs/a", "runs/b"])
    (['a/seed0', 'b/seed0'], ['a', 'b'])
    """
    parts = [Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _name(name: str) -> str:
    kept = [part for part in name.split(".") if part != "init_args"]
    return ".".join(kept[:-1] if kept[-1] == "class_path" and len(kept) > 1 else kept)


def _value(name: str, value: Any) -> Any:
    return value.rpartition(".")[2] if name.endswith("class_path") and isinstance(value, str) else value
