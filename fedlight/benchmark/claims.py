"""The three claims of the project, each with its numbers and a verdict.

1. Training together is better at an unseen institution than training alone, and about as good as pooling all data.
2. Style augmentation is better there than FedAvg.
3. Style augmentation with feature alignment is better there than FedAvg.

"holds" and "does not hold" mean that the whole interval for these institutions lies on that side; all else is "not
shown". So is every comparison in which a job is missing or failed, and every one of a single seed, as its interval does
not know how much training varies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedlight.benchmark.layout import TUNED
from fedlight.benchmark.paired import compare
from fedlight.benchmark.scores import Scores
from fedlight.benchmark.summaries import incomplete
from fedlight.benchmark.variants import held_out_cases

_STYLE = (
    "adain amplitude_mix bezier_remap ccst cross_efdmix cross_mixstyle dsu efdmix elcfs fedfa gin ipa mixstyle "
    "padain slaug style_exploration trid"
)
_ALIGNMENT = "coral fedadg fedavg_align fedavg_align_layers fedsr mmd prototypes"

FAMILIES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(_STYLE.split(), frozenset({"style"})),
    **dict.fromkeys(_ALIGNMENT.split(), frozenset({"alignment"})),
    "style_align": frozenset({"style", "alignment"}),
}
"""Arms whose method gives training images or features another style, makes the sites' features agree, or both.

``bigaug``, ``bigaug_half`` and ``randconv`` count as neither: strong augmentation that needs no federation is a
reference arm, to which style is added. Nor does harmonisation (``harmofl``), which changes an unseen institution's
images too.
"""

_NUMBERS = ["difference", "low", "high", "low_sites", "high_sites", "sites_better", "sites"]
_COLUMNS = ["claim", "statement", "arm", "against", *_NUMBERS, "decisive", "verdict", "note"]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One row: ``arm`` is claimed to be better than ``against``, or to lose less than ``margin`` to it."""

    claim: int
    statement: str
    arm: str
    against: str
    margin: float = 0.0
    level: float = 0.95
    note: str = ""


def claims(
    scores: Scores,
    checkpoint: str = "best",
    reference: str = "fedavg",
    families: Mapping[str, frozenset[str]] = FAMILIES,
    margin: float = 0.02,
) -> pd.DataFrame:
    """Judges the three claims at the institutions that took no part, by Dice.

    An arm such as "bigaug+mixstyle" is compared with the same arm without style and alignment ("bigaug"), any other
    with the reference. The best arm of a claim is chosen with a look at the held-out sites, so all intervals of a claim
    of m arms are at the level 1 - 0.05 / m (Bonferroni).

    Args:
        scores: Results.
        checkpoint: "best" or "last".
        reference: FedAvg's arm.
        families: What is a style or alignment method: by name, any of "style" and "alignment".
        margin: Dice that may be lost to pooled data for "about as good".

    Returns:
        One row a comparison, the best arm of a claim first: claim (1, 2, 3), statement, arm, against, difference (Dice
        of arm - against), low, high, low_sites, high_sites, sites_better, sites, decisive (bool: every row of claim 1;
        of the others the best complete arm that is compared with the reference), verdict, note.
    """
    cases = held_out_cases(scores.cases, checkpoint)
    lacking = incomplete(scores, cases)
    rows = [_judged(comparison, cases, lacking) | {"decisive": True} for comparison in _together(reference, margin)]
    for claim, (name, wanted) in _TREATMENTS.items():
        arms = [arm for arm in scores.arms if _kinds(arm, families) == wanted]
        compared = _treated(claim, name, arms, families, reference)
        rows += _best_first([_judged(comparison, cases, lacking) for comparison in compared], reference)
    return pd.DataFrame(rows, columns=_COLUMNS)


_TREATMENTS = {
    2: ("Style augmentation", frozenset({"style"})),
    3: ("Style augmentation with feature alignment", frozenset({"style", "alignment"})),
}


def _together(reference: str, margin: float) -> list[_Comparison]:
    peeked = "The best site is chosen with a look at the held-out site, in its favour."
    about = f"About as good: at most {margin:g} Dice below."
    return [
        _Comparison(1, f"{reference} is better than a site alone.", reference, "local (mean)"),
        _Comparison(
            1, f"{reference} is better than the best site alone.", reference, "local (best, oracle)", note=peeked
        ),
        _Comparison(1, f"{reference} is about as good as pooled data.", reference, "pooled", margin, note=about),
    ]


def _treated(
    claim: int, name: str, arms: Sequence[str], families: Mapping[str, frozenset[str]], reference: str
) -> list[_Comparison]:
    if not arms:
        return [_Comparison(claim, f"{name} is better than {reference}.", "", reference)]
    level = 1 - 0.05 / len(arms)
    against = {arm: _without(arm, families, reference) for arm in arms}
    return [_Comparison(claim, f"{name} is better than {against[arm]}.", arm, against[arm], 0.0, level) for arm in arms]


def _kinds(arm: str, families: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset(kind for part in _parts(arm) for kind in families.get(part, ()))


def _without(arm: str, families: Mapping[str, frozenset[str]], reference: str) -> str:
    """Names the arm that lacks nothing but style and alignment."""
    return "+".join(part for part in _parts(arm) if part not in families) or reference


def _parts(arm: str) -> list[str]:
    return arm.removesuffix(TUNED).split("+")


def _judged(comparison: _Comparison, cases: pd.DataFrame, lacking: Mapping[str, str]) -> dict[str, Any]:
    two = cases[cases["arm"].isin([comparison.arm, comparison.against])]
    found = compare(two, comparison.against, level=comparison.level).to_dict("records")
    numbers = next((row for row in found if row["arm"] == comparison.arm), None)
    problem = _problem(comparison, numbers, set(two["arm"]), lacking)
    return {
        "claim": comparison.claim,
        "statement": comparison.statement,
        "arm": comparison.arm,
        "against": comparison.against,
        **{name: (numbers or _NO_NUMBERS)[name] for name in _NUMBERS},
        "decisive": False,
        "verdict": "not shown" if problem or numbers is None else _verdict(numbers, comparison.margin),
        "note": " ".join(filter(None, (comparison.note, problem))),
    }


_NO_NUMBERS = {**dict.fromkeys(_NUMBERS[:5], float("nan")), "sites_better": 0, "sites": 0}


def _verdict(numbers: Mapping[str, float], margin: float) -> str:
    if numbers["low"] > -margin:
        return "holds"
    return "does not hold" if numbers["high"] < -margin else "not shown"


def _problem(
    comparison: _Comparison, numbers: Mapping[str, Any] | None, present: set[str], lacking: Mapping[str, str]
) -> str:
    """Says why a comparison cannot be decided, whatever its interval."""
    pair = (comparison.arm, comparison.against)
    if not comparison.arm:
        return "No arm of this kind."
    absent = [arm for arm in pair if arm not in present]
    if absent:
        return f"No results of {' and '.join(absent)}."
    problems = [f"{arm}: {lacking[arm]}." for arm in pair if arm in lacking]
    if numbers is not None and numbers["seeds"] < 2:
        problems.append("One seed: the interval does not know how much training varies.")
    return " ".join(problems)


def _best_first(rows: Sequence[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """Sorts the arms of a claim, best first, and marks the one that decides it."""
    ordered = sorted(rows, key=lambda row: (row["against"] != reference, not row["sites"], -row["difference"]))
    rivals = [row for row in ordered if row["against"] == reference]
    best = next((row for row in rivals if not row["note"]), ordered[0])
    best["decisive"] = True
    if len(ordered) > 1:
        best["note"] = f"{best['note']} {_CHOSEN.format(len(ordered))}".strip()
    return ordered


_CHOSEN = "The best of {0}, chosen with a look at the held-out sites; its interval is widened for {0} (Bonferroni)."
