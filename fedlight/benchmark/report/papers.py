"""The tables of a report for a paper, in LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from fedlight.benchmark import table as paper
from fedlight.benchmark import tables
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.table import Table, plain

RECORDS = ("data", "costs", "failed_jobs", "hardest")
"""Tables that a paper takes from the page."""


def papers(findings: Findings, shown: Mapping[str, Table]) -> dict[str, paper.Table]:
    """Returns the tables by the names of their files.

    Args:
        findings: What was found.
        shown: The tables of the page.
    """
    unit, choices = findings.scores.distance_unit, (findings.checkpoint, findings.reference)
    made = {
        "headline": tables.headline_table(findings.headline, unit, *choices),
        "in_federation": tables.in_federation_table(findings.in_federation, unit, *choices),
        "sites": tables.sites_table(findings.sites, unit=unit),
        "paired": tables.paired_table(findings.paired, findings.wilcoxon, findings.reference),
        "selection": tables.selection_table(findings.selection, findings.reference),
        "claims": tables.claims_table(findings.claims),
        **{name: plain(shown[name]) for name in RECORDS if name in shown},
    }
    if len(findings.scores.classes) > 1:
        made["classes"] = tables.classes_table(findings.per_class, unit)
    return made
