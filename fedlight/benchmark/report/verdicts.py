"""The project's claims with their verdicts, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import absent, interval, signed
from fedlight.benchmark.report.results_tables import rows
from fedlight.benchmark.report.table import Column, Table, Values, table

Tone = Literal["holds", "fails", "unshown"]

TONES: dict[str, tuple[Tone, str]] = {
    "holds": ("holds", "✓"),
    "does not hold": ("fails", "✗"),
    "not shown": ("unshown", "?"),
}
"""Verdict -> class in the page, sign beside the word."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and what became of it.

    Args:
        number: Of the claim.
        statement: The claim.
        verdict: "holds", "does not hold" or "not shown".
        sentences: The comparison that decides, in words, and notes.
        table: All comparisons of the claim.
    """

    number: int
    statement: str
    verdict: str
    sentences: tuple[str, ...]
    table: Table

    @property
    def tone(self) -> Tone:
        """Class in the page."""
        return TONES[self.verdict][0]

    @property
    def sign(self) -> str:
        """What stands beside the word, so that colour is not needed."""
        return TONES[self.verdict][1]


def verdicts(findings: Findings) -> list[Verdict]:
    """Returns the claims in their order."""
    return [_verdict(int(number), rows(frame)) for number, frame in findings.claims.groupby("claim", sort=True)]


def _verdict(number: int, comparisons: Sequence[Values]) -> Verdict:
    decisive = [row for row in comparisons if row["decisive"]] or list(comparisons[:1])
    notes = dict.fromkeys(str(row["note"]) for row in comparisons if row["note"])
    sentences = (*(said(row) for row in decisive if not absent(row["difference"])), *notes)
    return Verdict(
        number, decisive[0]["statement"], decisive[0]["verdict"], sentences, _comparisons(number, comparisons)
    )


def said(row: Values) -> str:
    """Writes a comparison as a sentence."""
    text = (
        f"Decisive: {row['arm']} against {row['against']}, mean difference of Dice {signed(row['difference'])}, "
        f"95 % interval for these sites {interval(row['low'], row['high'])}"
    )
    if not absent(row["low_sites"]):
        text += f", for institutions in general {interval(row['low_sites'], row['high_sites'])}"
    return f"{text}; better at {row['sites_better']:.0f} of {row['sites']:.0f} sites."


def _comparisons(number: int, comparisons: Sequence[Values]) -> Table:
    columns = [
        Column("Arm", "", lambda row: str(row["arm"]), "arm", numeric=False),
        Column("Against", "", lambda row: str(row["against"]), "against", numeric=False),
        Column(
            "Difference",
            "Mean paired difference of Dice at held-out sites; above 0 the arm is better.",
            lambda row: signed(row["difference"]),
            "difference",
        ),
        Column(
            "95 % interval, these sites",
            "The sites are taken as they are.",
            lambda row: interval(row["low"], row["high"]),
            "low",
        ),
        Column(
            "95 % interval, sites in general",
            "The sites are taken as a sample of institutions.",
            lambda row: interval(row["low_sites"], row["high_sites"]),
            "low_sites",
        ),
        Column("Verdict", "", lambda row: str(row["verdict"]), "verdict", numeric=False),
    ]
    return table(f"claim_{number}", f"Comparisons for claim {number}.", columns, comparisons)
