"""The tables of scores: at institutions that took no part, and, apart from them, within the federation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from fedlight.benchmark.measures import MEASURES, heading
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import MISSING, absent, fixed, interval, signed
from fedlight.benchmark.report.table import Column, Kind, Table, Values, table
from fedlight.benchmark.variants import held_out_cases

INCOMPLETE = "†"
"""Behind the name of an arm of which jobs are missing or failed."""


def headline(findings: Findings) -> Table:
    """Returns the table of held-out sites: one row an arm, best mean Dice first."""
    reference = findings.reference
    columns = [
        ARM,
        measure("dice"),
        measure("dice_sd"),
        Column(
            f"Difference to {reference}",
            f"Mean paired difference of Dice to {reference}: same case, same held-out site, same seed; above 0 the arm "
            "is better.",
            lambda row: signed(row["difference"]),
            "difference",
        ),
        Column(
            "95 % interval",
            "Of that difference, for these sites: bootstrap over seeds and cases within every held-out site, stretched "
            "for few seeds.",
            lambda row: interval(row["low"], row["high"]),
            "low",
        ),
        measure("rank"),
        WORST_SITE,
        *map(measure, ("worst_decile", "miss", "val_dice")),
        JOBS,
    ]
    caption = f"Scores at held-out sites, {_checkpoint(findings)}."
    return table("held_out", caption, columns, rows(findings.headline), _kind(reference))


def distances(findings: Findings) -> Table:
    """Returns the overlap and surface measures at held-out sites."""
    unit = findings.scores.distance_unit
    columns = [ARM, measure("dice"), measure("iou"), *_distances(unit), measure("miss")]
    caption = f"Overlap and distances at held-out sites, {_checkpoint(findings)}."
    return table("held_out_distances", caption, columns, rows(findings.headline), _kind(findings.reference))


def calibration(findings: Findings) -> Table:
    """Returns the calibration at held-out sites."""
    caption = f"Calibration at held-out sites, {_checkpoint(findings)}."
    return table(
        "calibration",
        caption,
        [ARM, measure("ece"), measure("brier")],
        rows(findings.headline),
        _kind(findings.reference),
    )


def in_federation(findings: Findings) -> Table:
    """Returns the table of test cases of the sites that trained."""
    unit = findings.scores.distance_unit
    scores = [measure("dice"), measure("dice_sd"), WORST_SITE, measure("worst_decile"), measure("iou")]
    columns = [ARM, *scores, *_distances(unit), *map(measure, ("miss", "ece", "brier")), JOBS]
    caption = f"Scores on test cases of the sites that trained, {_checkpoint(findings)}."
    return table("in_federation", caption, columns, rows(findings.in_federation), _kind(findings.reference))


def per_class(findings: Findings) -> Table | None:
    """Returns the table by foreground class; None where there is one class."""
    if len(findings.scores.classes) < 2:
        return None
    label = Column("Class", "", lambda row: str(row["class"]), "class", numeric=False)
    columns = [ARM, label, measure("dice"), measure("iou"), *_distances(findings.scores.distance_unit), measure("miss")]
    caption = f"Scores at held-out sites by class, {_checkpoint(findings)}."
    return table("by_class", caption, columns, rows(findings.per_class), _kind(findings.reference))


def paired(findings: Findings) -> Table:
    """Returns the paired differences with both intervals."""
    columns = [
        ARM,
        Column("Difference", "Mean paired difference of Dice.", lambda row: signed(row["difference"]), "difference"),
        Column(
            "95 % interval, these sites",
            "The sites are taken as they are; seeds and cases are drawn anew within every site (bootstrap, stretched "
            "for few seeds).",
            lambda row: interval(row["low"], row["high"]),
            "low",
        ),
        Column(
            "95 % interval, sites in general",
            "The sites are taken as a sample of institutions (Student's t over their means); with few sites "
            "it is wide.",
            lambda row: interval(row["low_sites"], row["high_sites"]),
            "low_sites",
        ),
        Column(
            "Sites better",
            "Held-out sites at which the mean difference is above 0, of all.",
            lambda row: f"{row['sites_better']} of {row['sites']}",
            "sites_better",
        ),
        Column("Cells", "Pairs of held-out site and seed.", lambda row: str(row["cells"]), "cells"),
        Column("Cases", "Of all held-out sites, each once.", lambda row: str(row["cases"]), "cases"),
    ]
    caption = f"Paired differences of Dice to {findings.reference} at held-out sites, {_checkpoint(findings)}."
    frame = findings.paired.sort_values("difference", ascending=False, kind="stable")
    return table("paired", caption, columns, rows(frame), _kind(findings.reference))


def tests(findings: Findings) -> Table:
    """Returns Wilcoxon's tests: a row an arm and site."""
    columns = [
        ARM,
        Column("Held-out site", "", lambda row: str(row["site"]), "site", numeric=False),
        Column(
            "Median difference",
            f"Of Dice to {findings.reference}, over the cases of the site, each the mean over seeds.",
            lambda row: signed(row["median"]),
            "median",
        ),
        Column("p", "Of Wilcoxon's signed-rank test, two-sided.", lambda row: _probability(row["p"]), "p"),
        Column(
            "p after Holm",
            "Adjusted for all tests of this table; below 0.05 a difference at this site is more than chance.",
            lambda row: _probability(row["p_holm"]),
            "p_holm",
        ),
        Column("Cases", "", lambda row: str(row["cases"]), "cases"),
    ]
    caption = f"Tests of every arm against {findings.reference} within a held-out site, {_checkpoint(findings)}."
    return table("tests", caption, columns, rows(findings.wilcoxon))


def hardest(findings: Findings, per_site: int = 3) -> Table | None:
    """Returns the cases with the lowest mean Dice over all ranked arms and seeds, some of every held-out site."""
    frame = held_out_cases(findings.scores.cases, findings.checkpoint)
    means = frame[frame["kind"] == "arm"].groupby(["site", "case", "arm"])["dice"].mean().unstack()
    if means.empty:
        return None
    summary = pd.DataFrame(
        {"mean": means.mean(axis=1), "best": means.max(axis=1), "own": means.get(findings.reference)}
    )
    worst = (
        summary.sort_values("mean", kind="stable")
        .groupby("site")
        .head(per_site)
        .sort_index(level="site", sort_remaining=False)
    )
    columns = [
        Column("Held-out site", "", lambda row: str(row["site"]), "site", numeric=False),
        Column("Case", "", lambda row: str(row["case"]), "case", numeric=False),
        Column(
            "All arms", "Mean Dice of the case over all ranked arms and seeds.", lambda row: fixed(row["mean"]), "mean"
        ),
        Column(findings.reference, "Mean over seeds.", lambda row: fixed(row["own"]), "own"),
        Column("Best arm", "The highest mean over seeds that an arm has.", lambda row: fixed(row["best"]), "best"),
    ]
    return table(
        "hardest", f"Hardest cases at held-out sites, {_checkpoint(findings)}.", columns, rows(worst.reset_index())
    )


def rows(frame: pd.DataFrame) -> list[Values]:
    """Returns a frame's rows as mappings."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _checkpoint(findings: Findings) -> str:
    return {"best": "model of the selected round", "last": "model of the last round"}[findings.checkpoint]


def _kind(reference: str) -> Any:
    def kind(row: Values) -> Kind:
        if row["arm"] == reference:
            return "reference"
        return "" if row["kind"] == "arm" else "aside"

    return kind


def _arm(row: Values) -> str:
    return f"{row['arm']} {INCOMPLETE}" if row.get("complete") is False else str(row["arm"])


def _probability(value: float) -> str:
    return MISSING if absent(value) else "< 0.001" if value < 0.001 else fixed(value)


def measure(name: str, unit: str = "") -> Column:
    """Returns the column of a measure, with the sentence that says what it is and which way is better."""
    found = MEASURES[name]
    better = f" {found.better.capitalize()} is better." if found.better else ""
    meaning = found.meaning.removeprefix(f"{found.heading}: ")
    text = f"{meaning[0].upper()}{meaning[1:]}{better}"
    return Column(heading(name, unit, ("", "")), text, lambda row: found.text(row[name]), name)


def _distances(unit: str) -> list[Column]:
    """Returns the columns of distances, with their unit spelled out."""
    words = {"px": "pixels", "mm": "millimetres"}[unit]
    columns = (measure(name, unit) for name in ("hd95", "assd"))
    return [replace(column, meaning=f"{column.meaning} In {words}.") for column in columns]


def _worst_site(row: Values) -> str:
    site = row["worst_site"]
    return f"{site} {fixed(row['worst_site_dice'])}" if isinstance(site, str) else MISSING


ARM = Column("Arm", "", _arm, "arm", numeric=False)
WORST_SITE = replace(
    measure("worst_site_dice"), meaning="The site with the lowest mean Dice, and that mean.", write=_worst_site
)
JOBS = Column("Jobs", "Done of those planned.", lambda row: f"{row['jobs']:.0f} of {row['planned']:.0f}", "jobs")
