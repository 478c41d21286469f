"""The project's claims with their verdicts, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import MISSING, absent, interval, signed
from fedlight.benchmark.report.results_tables import rows
from fedlight.benchmark.report.table import Column, Table, Values, table

CLAIMS = {
    1: "Training together is better at an unseen institution than training alone, and about as good as pooling",
    2: "Style augmentation is better at an unseen institution than FedAvg",
    3: "Style augmentation with alignment of features is better at an unseen institution than FedAvg",
}
"""What is claimed, by number."""

TONES = {
    "holds": ("holds", "✓"),
    "does not hold": ("fails", "✗"),
    "not shown": ("unshown", "?"),
    "holds in part": ("unshown", "±"),
}
"""Verdict -> class in the page, sign beside the word, so that colour is not needed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and what became of it.

    Args:
        number: Of the claim.
        claim: In words.
        verdict: "holds", "does not hold", "not shown", or "holds in part" where decisive comparisons differ.
        sentences: The comparisons that decide, in words.
        notes: What else must be known.
        table: All comparisons of the claim.
    """

    number: int
    claim: str
    verdict: str
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    table: Table

    @property
    def tone(self) -> str:
        """Class in the page."""
        return TONES[self.verdict][0]

    @property
    def sign(self) -> str:
        """What stands beside the word."""
        return TONES[self.verdict][1]


def verdicts(findings: Findings) -> list[Verdict]:
    """Returns the claims in their order."""
    groups = () if findings.claims.empty else findings.claims.groupby("claim", sort=True)
    return [_verdict(int(number), rows(frame)) for number, frame in groups]


def together(verdicts: Sequence[str]) -> str:
    """Returns the verdict on a claim from those on the comparisons that decide it.

    >>> together(["holds", "holds"]), together(["holds", "not shown"]), together(["not shown", "does not hold"])
    ('holds', 'holds in part', 'does not hold')
    """
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "holds in part" if "holds" in verdicts else "does not hold" if "does not hold" in verdicts else "not shown"


def _verdict(number: int, comparisons: Sequence[Values]) -> Verdict:
    decisive = [row for row in comparisons if row["decisive"]]
    notes = tuple(noted(row) for row in comparisons if row["note"])
    verdict = together([str(row["verdict"]) for row in decisive] or ["not shown"])
    sentences = tuple(map(said, decisive)) or ("There are no results that could decide this.",)
    return Verdict(number, CLAIMS[number], verdict, sentences, notes, _comparisons(number, comparisons))


def said(row: Values) -> str:
    """Writes a decisive comparison as a sentence."""
    text = f"{row['statement'].removesuffix('.')}: {row['verdict']}"
    if absent(row["difference"]):
        return f"{text}."
    text += f"; mean paired difference of Dice {signed(row['difference'])}"
    if not absent(row["low"]):
        text += f", for these sites in {interval(row['low'], row['high'])}"
    if not absent(row["low_sites"]):
        text += f", for institutions in general in {interval(row['low_sites'], row['high_sites'])}"
    return f"{text}; better at {row['sites_better']:.0f} of {row['sites']:.0f} sites."


def noted(row: Values) -> str:
    """Writes the note of a comparison so that it is known whose it is."""
    return f"{row['arm']} against {row['against']}: {row['note']}" if row["arm"] else str(row["note"])


def _comparisons(number: int, comparisons: Sequence[Values]) -> Table:
    columns = [
        Column("Comparison", "", lambda row: str(row["arm"]) or MISSING, "arm", numeric=False),
        Column("Against", "", lambda row: str(row["against"]), "against", numeric=False),
        Column(
            "Difference",
            "Mean paired difference of Dice at held-out sites; above 0 the arm is better.",
            lambda row: signed(row["difference"]),
            "difference",
        ),
        Column(
            "Interval, these sites",
            "The sites are taken as they are. The level is 95 %; within claims 2 and 3 it is 1 - 0.05 / m for each "
            "of m arms.",
            lambda row: interval(row["low"], row["high"]),
            "low",
        ),
        Column(
            "Interval, sites in general",
            "The sites are taken as a sample of institutions; the level is the same.",
            lambda row: interval(row["low_sites"], row["high_sites"]),
            "low_sites",
        ),
        Column("Decides", "", lambda row: "yes" if row["decisive"] else "no", "decisive", numeric=False),
        Column("Verdict", "", lambda row: str(row["verdict"]), "verdict", numeric=False),
    ]
    return table(f"claim_{number}", f"Comparisons for claim {number}.", columns, comparisons)
