"""The tables of what was done: sites, costs, failed jobs; and what declared rules pick."""

from __future__ import annotations

import pandas as pd

from fedlight.benchmark.report.facts import costs, failures, sites
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import MISSING, THIN, absent, duration, fixed
from fedlight.benchmark.report.results_tables import rows
from fedlight.benchmark.report.table import Column, Table, Values, table


def site_table(findings: Findings) -> Table:
    """Returns the sites with their numbers of cases."""
    columns = [
        Column("Site", "", lambda row: str(row["site"]), "site", numeric=False),
        Column("Cases when held out", "", lambda row: _count(row["scored"]), "scored"),
        Column("Training cases when it trains", "", lambda row: _count(row["training"]), "training"),
    ]
    return table("data", "Sites and their cases.", columns, rows(sites(findings.scores, findings.reference)))


def cost_table(findings: Findings) -> Table:
    """Returns what a job of every arm costs."""
    columns = [
        Column("Arm", "", lambda row: str(row["arm"]), "arm", numeric=False),
        Column("Wall time", "Median over an arm's jobs.", lambda row: duration(row["seconds"]), "seconds"),
        Column(
            "Processor time",
            "Median over an arm's jobs, all threads together.",
            lambda row: duration(row["processor_seconds"]),
            "processor_seconds",
        ),
        Column(
            "Times the reference",
            f"Processor time as a multiple of that of {findings.reference}.",
            lambda row: fixed(row["times"], 2),
            "times",
        ),
        Column(
            "Megabytes",
            "Sent up and down by all sites over the whole training.",
            lambda row: fixed(row["megabytes"], 1),
            "megabytes",
        ),
        Column("Parameters", "Of the network.", lambda row: _count(row["num_parameters"]), "num_parameters"),
        Column(
            "Selected round",
            "Median of the rounds with the best source validation Dice, and the last round.",
            lambda row: f"{fixed(row['selected_round'], 0)} of {fixed(row['rounds'], 0)}",
            "selected_round",
        ),
    ]
    return table("costs", "What a job costs.", columns, rows(costs(findings.scores, findings.reference)))


def failure_table(findings: Findings) -> Table | None:
    """Returns the jobs that failed, with reasons; None where none did."""
    frame = failures(findings.scores)
    columns = [
        Column("Arm", "", lambda row: str(row["arm"]), "arm", numeric=False),
        Column("Held out", "", lambda row: str(row["held_out"]), "held_out", numeric=False),
        Column("Seed", "", lambda row: str(row["seed"]), "seed"),
        Column("Reason", "", lambda row: str(row["reason"]), "reason", numeric=False),
    ]
    return None if frame.empty else table("failed_jobs", "Jobs that failed.", columns, rows(frame))


def selection_table(findings: Findings) -> Table:
    """Returns what every rule picks at every site, and the mean over sites."""
    wide = [_rule(rule, frame) for rule, frame in findings.selection.groupby("rule", sort=False)]
    columns = [
        Column("Rule", "", lambda row: str(row["rule"]), "rule", numeric=False),
        *(_picked(site) for site in findings.scores.sites),
        Column(
            "Mean",
            "Over the sites at which the rule picks an arm; a dash where it picks at none.",
            lambda row: fixed(row["mean"]),
            "mean",
        ),
    ]
    caption = "The arm that each rule picks for a site, and its mean Dice there when held out."
    return table("selection", caption, columns, wide, lambda row: "aside" if row["rule"] == "oracle" else "")


def _rule(rule: object, frame: pd.DataFrame) -> Values:
    at = {row["site"]: (row["arm"], row["dice"]) for row in rows(frame)}
    return {"rule": rule, "mean": float(frame["dice"].mean()), **{f"at {site}": pick for site, pick in at.items()}}


def _picked(site: str) -> Column:
    def write(row: Values) -> str:
        arm, dice = row.get(f"at {site}", ("", None))
        return f"{arm} {fixed(dice)}" if arm else MISSING

    return Column(site, "", write)


def _count(value: float | None) -> str:
    return MISSING if value is None or absent(value) else f"{value:,.0f}".replace(",", THIN)
