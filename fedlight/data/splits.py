"""Which cases train, validate and test: by patient, without looking at file order."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedlight.data.federated import Stage
from fedlight.data.findings import Findings, listing

STAGES: tuple[Stage, ...] = ("train", "val", "test")

Split = Mapping[str, Stage]
"""Case name -> split."""


class Member(Protocol):
    """A case of a site."""

    @property
    def name(self) -> str:
        """Unique at its site."""

    @property
    def group(self) -> str:
        """The patient."""


def patient(name: str, pattern: re.Pattern[str] | None) -> str | None:
    """Finds the patient in the name of a case; None if the pattern does not match, the name if there is no pattern.

    >>> patient("Image_01L", re.compile("^Image_[0-9]+")), patient("Image_01L", None)
    ('Image_01', 'Image_01L')
    """
    if pattern is None:
        return name
    found = pattern.search(name)
    return None if found is None else next((part for part in found.groups() if part is not None), found.group())


@dataclass(frozen=True, slots=True)
class Fractions:
    """How a site is split; what is left after validation and test is for training.

    Attributes:
        val: Share of validation cases, above 0.
        test: Share of test cases; 0 for none.
        seed: Another seed, another split.
    """

    val: float
    test: float
    seed: int

    def check(self, findings: Findings) -> None:
        """Reports shares that leave nothing to train or to validate on."""
        if not 0 < self.val < 1 or not 0 <= self.test < 1 or self.val + self.test >= 1:
            findings.error(
                f"data.val_fraction is {self.val:g} and data.test_fraction {self.test:g}: validation needs more than "
                "0, and the two must leave some cases to train on. Try 0.15 and 0.15."
            )


def split(site: str, entries: Sequence[Member], fractions: Fractions, findings: Findings) -> Split:
    """Splits the cases of a site by patient.

    Patients are put in an order that depends only on seed, site and patient. From its front, validation and then test
    take patients until they have their share of cases; each gets at least one patient, and so does training.
    """
    patients: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        patients[entry.group].append(entry.name)
    order = sorted(patients, key=lambda group: _place(fractions.seed, site, group))
    needed = 3 if fractions.test > 0 else 2
    if len(order) < needed:
        findings.error(_too_few(site, len(entries), len(order), needed), site)
        return {}
    stages: dict[str, Stage] = {}
    _take(order, patients, "val", max(1, round(fractions.val * len(entries))), needed - 1, stages)
    if fractions.test > 0:
        _take(order, patients, "test", max(1, round(fractions.test * len(entries))), 1, stages)
    _take(order, patients, "train", len(entries), 0, stages)
    return stages


def _place(seed: int, site: str, group: str) -> bytes:
    return hashlib.sha256(f"{seed}/{site}/{group}".encode()).digest()


def _take(
    order: list[str], patients: Mapping[str, list[str]], stage: Stage, wanted: int, left: int, stages: dict[str, Stage]
) -> None:
    taken = 0
    while taken < wanted and len(order) > left:
        names = patients[order.pop(0)]
        stages.update(dict.fromkeys(names, stage))
        taken += len(names)


def _too_few(site: str, cases: int, patients: int, needed: int) -> str:
    count = f"{cases} usable cases" + (f" of {patients} patients" if patients < cases else "")
    parts = "training, validation and test" if needed == 3 else "training and validation"
    ways = "Add cases, leave the site out with data.sites"
    ways += ", set data.test_fraction to 0" if needed == 3 and patients == 2 else ""
    return f"site {site}: {count}, and {parts} need one patient each. {ways} or give the split in data.splits."


def read_splits(path: Path, findings: Findings) -> dict[str, dict[str, Stage]]:
    """Reads explicit splits: a CSV file with the columns site, case and split.

    Returns:
        Site -> case -> split; empty if the file cannot be used, which is reported.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = {"site", "case", "split"} - set(rows.fieldnames or [])
            table = [] if missing else list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        findings.error(
            f"data.splits {path} cannot be read ({error}). Give a CSV file with the columns site,case,split."
        )
        return {}
    if missing:
        findings.error(f"data.splits {path} has no column {listing(sorted(missing))}. It needs site,case,split.")
    return _by_site(table, path, findings)


def _by_site(table: list[dict[str, str]], path: Path, findings: Findings) -> dict[str, dict[str, Stage]]:
    by_name: dict[str, Stage] = {stage: stage for stage in STAGES}
    result: dict[str, dict[str, Stage]] = defaultdict(dict)
    wrong = [f"{row['site']} {row['case']} ({row['split']})" for row in table if row["split"] not in by_name]
    twice = [f"{row['site']} {row['case']}" for row in table if _repeats(row, result, by_name)]
    if wrong:
        findings.error(f"data.splits {path}: unknown split of {listing(wrong)}. A split is train, val or test.")
    if twice:
        findings.error(f"data.splits {path}: more than one row for {listing(twice)}. Keep one row a case.")
    return dict(result)


def _repeats(row: dict[str, str], result: dict[str, dict[str, Stage]], stages: Mapping[str, Stage]) -> bool:
    site = result[row["site"]]
    known = row["case"] in site
    if row["split"] in stages:
        site[row["case"]] = stages[row["split"]]
    return known


def check_explicit(site: str, entries: Sequence[Member], stages: Split, findings: Findings) -> Split:
    """Checks an explicit split against the cases of a site and returns the part that exists."""
    names = {entry.name for entry in entries}
    found = {name: stage for name, stage in stages.items() if name in names}
    if unlisted := sorted(names - set(stages)):
        findings.error(f"site {site}: no row in data.splits for {listing(unlisted)}. List every case once.", site)
    if unknown := sorted(set(stages) - names):
        findings.error(
            f"site {site}: data.splits names cases that do not exist: {listing(unknown)}. Remove them.", site
        )
    for stage in ("train", "val"):
        if stage not in found.values():
            findings.error(f"site {site}: data.splits gives it no {stage} case. Every training site needs one.", site)
    _check_groups(site, entries, found, findings)
    return found


def _check_groups(site: str, entries: Sequence[Member], stages: Split, findings: Findings) -> None:
    seen: dict[str, set[Stage]] = defaultdict(set)
    for entry in entries:
        if entry.name in stages:
            seen[entry.group].add(stages[entry.name])
    if crossing := sorted(group for group, where in seen.items() if len(where) > 1):
        findings.error(
            f"site {site}: data.splits puts patients into several splits: {listing(crossing)}. Use one.", site
        )
