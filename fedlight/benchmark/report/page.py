"""The page: everything that was found, in words, tables and figures, as one HTML file and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import jinja2

from fedlight import __version__, palette
from fedlight.benchmark import table as paper
from fedlight.benchmark.report import facts, record_tables, results_tables
from fedlight.benchmark.report.canvas import Picture
from fedlight.benchmark.report.cases import Embedded, Overlays
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import absent, counted, duration, fixed, interval, listed, plural, signed
from fedlight.benchmark.report.protocol import completeness, protocol
from fedlight.benchmark.report.table import Table
from fedlight.benchmark.report.verdicts import verdicts

CONTENTS = {
    "compared": "What was compared",
    "verdict": "Verdict on the claims",
    "held-out": "At sites that took no part",
    "differences": "Differences",
    "sites": "Site by site",
    "ranks": "Average rank",
    "selection": "What a rule would have picked",
    "in-federation": "Within the federation",
    "learning": "Learning and its price",
    "calibration": "Calibration",
    "failures": "Failures",
    "cases": "Best, median and worst cases",
    "again": "To do it again",
}
"""Anchors of the sections and what the contents say."""

WITHOUT_OVERLAYS = (
    "Overlays are not here: they show patients. To get them, start the same benchmark again with --pictures where the "
    "data are, and make the report there; the file then holds patients' images and must stay with their owner."
)
WITHOUT_STYLES = (
    "The sheet of styles and the map of the sites' features are not here: they come with --pictures, too, or from "
    "fedlight styles -c CONFIG, with --output set to the folder styles beside the results."
)


def tables(findings: Findings) -> dict[str, Table]:
    """Returns every table of the report by its name, without those that have nothing to say."""
    made = (
        record_tables.site_table(findings),
        *(verdict.table for verdict in verdicts(findings)),
        results_tables.headline(findings),
        results_tables.distances(findings),
        results_tables.per_class(findings),
        results_tables.paired(findings),
        results_tables.tests(findings),
        record_tables.selection_table(findings),
        results_tables.in_federation(findings),
        record_tables.cost_table(findings),
        results_tables.calibration(findings),
        record_tables.failure_table(findings),
        results_tables.hardest(findings),
    )
    return {table.name: table for table in made if table is not None}


def html(
    findings: Findings,
    tables: Mapping[str, Table],
    pictures: Mapping[str, Picture],
    title: str,
    overlays: Sequence[Overlays] = (),
    styles: Sequence[Embedded] = (),
) -> str:
    """Renders the page; it loads nothing from elsewhere.

    Args:
        findings: What was found.
        tables: By name.
        pictures: By name.
        title: Of the page.
        overlays: Cases to look at, if they may be shown, site by site.
        styles: Sheets of styles and features, if they may be shown.
    """
    by_site = {site: list(groups) for site, groups in groupby(overlays, key=lambda group: group.site)}
    shown = {"overlays": by_site, "styles": styles, "pictures": pictures, "seen": [], "outlines": palette.OUTLINES}
    return _environment().get_template("report.html").render(**_context(findings, tables, pictures, title), **shown)


def md(findings: Findings, tables: Mapping[str, paper.Table], pictures: Mapping[str, Picture], title: str) -> str:
    """Renders the same as Markdown, with links to the figures' files and without patients' images.

    Args:
        findings: What was found.
        tables: As they are written for papers, by name.
        pictures: By name.
        title: Of the page.
    """
    context = _context(findings, {}, pictures, title)
    text = _environment().get_template("report.md").render(**{**context, "tables": tables}, pictures=pictures)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedlight.benchmark.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tied"] = tied
    return environment


def tied(text: str) -> str:
    r"""Keeps a percent sign at its number and the two ends of an interval together when a line is broken.

    >>> tied("95 % in [0, 1]").count("\xa0")
    2
    """
    return re.sub(r"\[(\S+), (\S+)\]", "[\\1,\xa0\\2]", text.replace(" %", "\xa0%"))


def _context(
    findings: Findings, tables: Mapping[str, Table], pictures: Mapping[str, Picture], title: str
) -> dict[str, Any]:
    scores, jobs = findings.scores, facts.done(findings.scores)
    wall, processor = facts.totals(scores)
    return {
        "title": title,
        "summary": _summary(findings),
        "reference": findings.reference,
        "numbers": _numbers(findings, jobs),
        "contents": [item for item in CONTENTS.items() if item[0] != "ranks" or "ranks" in pictures],
        "protocol": protocol(findings),
        "settings": facts.differing_settings(scores, findings.reference),
        "claims": verdicts(findings),
        "held_out": _held_out(findings),
        "aside": _aside(findings),
        "incomplete": _incomplete(findings),
        "tests": counted(len(findings.wilcoxon), "test"),
        "completeness": completeness(jobs),
        "time": f"All jobs together took {duration(wall)} by the clock and {duration(processor)} of processor time.",
        "environments": facts.environments(scores),
        "commands": facts.commands(scores),
        "footer": f"Made by fedlight {__version__} from cases.csv and job.json of every job.",
        "without_overlays": WITHOUT_OVERLAYS,
        "without_styles": WITHOUT_STYLES,
        "tables": {**dict.fromkeys(("by_class", "failed_jobs", "hardest")), **tables},
        "light": palette.style_sheet(palette.LIGHT),
        "dark": palette.style_sheet(palette.DARK),
    }


def _summary(findings: Findings) -> str:
    model = {"best": "the model of the selected round", "last": "the model of the last round"}[findings.checkpoint]
    return f"Every site held out in turn and scored once, with {model}. Differences are to {findings.reference}."


def _numbers(findings: Findings, jobs: facts.Done) -> list[tuple[str, str]]:
    """Returns the numbers at the top, each with its label."""
    scores = findings.scores
    held_out = scores.cases[scores.cases["domain"] == "held-out"]
    cases = held_out[["site", "case"]].drop_duplicates()
    return [
        (str(len(scores.arms)), plural("arm", len(scores.arms))),
        (str(len(scores.sites)), f"{plural('site', len(scores.sites))}, each held out in turn"),
        (str(len(cases)), f"{plural('case', len(cases))} scored at held-out sites"),
        (str(len(scores.seeds)), plural("seed", len(scores.seeds))),
        (f"{jobs.done} of {jobs.planned}", f"jobs done, {jobs.failed} failed"),
    ]


def _held_out(findings: Findings) -> str:
    """Says what leads the table, and what that is worth."""
    ranked = [row for row in results_tables.rows(findings.headline) if row["kind"] == "arm"]
    if not ranked or absent(ranked[0]["dice"]):
        return "There are no scores at held-out sites yet."
    best, own = ranked[0], next((row for row in ranked if row["arm"] == findings.reference), None)
    text = f"The highest mean Dice is that of {best['arm']}, {fixed(best['dice'])}"
    if own is not None and best is not own:
        text += (
            f"; {findings.reference} has {fixed(own['dice'])}. The paired difference is {signed(best['difference'])} "
            f"{interval(best['low'], best['high'])}"
        )
    return (
        f"{text}. To take the best of {counted(len(ranked), 'arm')} from this table is to have looked at the held-out "
        "sites; what rules pick that do not look stands under “What a rule would have picked”."
    )


def _aside(findings: Findings) -> str:
    kinds = {
        "oracle": "is chosen with a look at the held-out site and flatters",
        "human": "is a second annotator, scored against the first",
    }
    said = [
        f"{row['arm']} {kinds[row['kind']]}" for row in results_tables.rows(findings.headline) if row["kind"] in kinds
    ]
    return f"Rows in italics stand aside and are not ranked: {'; '.join(said)}." if said else ""


def _incomplete(findings: Findings) -> str:
    frame = findings.headline
    return listed([str(arm) for arm in frame["arm"][~frame["complete"].astype(bool)]])
