"""The frames of the statistics as tables for people: what is shown, what is bold, what is said under them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fedlight.benchmark import statistics
from fedlight.benchmark.measures import MEASURES, UNDEFINED, heading
from fedlight.benchmark.scores import Scores
from fedlight.benchmark.table import Cell, Table

_MEANS = ["worst_decile", "iou", "hd95", "assd", "miss", "ece", "brier"]
_CHECKPOINT = {"best": "the round with the best source validation Dice", "last": "the last round"}

BOLD = (
    "Bold: the best of the arms that have all their jobs, chosen after the fact; for distances, of those that miss no "
    "more than {reference}. n/a: undefined."
)
ORDER = "Means are over cases, then seeds, then sites, so every site counts the same."
VARIANTS = (
    "(mean): the mean over the sites' own models. (best, oracle): the one of them that is best at the held-out site, "
    "chosen with a look at it."
)
INTERVAL = (
    "Brackets: 95 % interval for these institutions (bootstrap of seeds and cases within every site; sites are not "
    "resampled, cases count as independent, and of one seed it does not know how much training varies)."
)
GENERAL = (
    "In general: 95 % interval for institutions in general (Student's t over the {sites} held-out sites, which takes "
    "them for a random sample); over so few it says little about institutions in general."
)


def tables(scores: Scores, checkpoint: str = "best", reference: str = "fedavg") -> dict[str, Table]:
    """Makes all tables, by the names of their files: headline, in_federation, sites, paired, selection, claims."""
    given = (scores, checkpoint, reference)
    unit = scores.distance_unit
    made = {
        "headline": headline_table(statistics.headline(*given), unit, checkpoint, reference),
        "in_federation": in_federation_table(statistics.in_federation(scores, checkpoint), unit, checkpoint, reference),
        "sites": sites_table(statistics.per_site(scores, checkpoint), unit=unit),
        "paired": paired_table(statistics.paired(*given), statistics.wilcoxon(*given), reference),
        "selection": selection_table(statistics.selection(*given), reference),
        "claims": claims_table(statistics.claims(*given)),
    }
    if len(scores.classes) > 1:
        made["classes"] = classes_table(statistics.per_class(scores, checkpoint), unit)
    return made


def headline_table(frame: pd.DataFrame, unit: str, checkpoint: str = "best", reference: str = "fedavg") -> Table:
    """Shows ``statistics.headline``."""
    names = [*_MEANS, "val_dice", "rank"]
    best = {name: _best(frame, name, reference) for name in ("dice", "worst_site_dice", *names)}
    rows = [
        (
            *_scores_of(row, {name: marks[index] for name, marks in best.items()}, names),
            Cell(with_interval(row["difference"], row["low"], row["high"])),
            Cell(_jobs(row)),
        )
        for index, row in enumerate(frame.to_dict("records"))
    ]
    headings = (*_score_headings(names, unit), f"To {reference}", "Jobs")
    notes = [
        f"Scores at institutions that took no part, of {_CHECKPOINT[checkpoint]}.",
        *_meanings(["dice", "dice_sd", "worst_site_dice", *names]),
        f"To {reference}: difference in Dice on the same cases, seeds and held-out sites.",
        *(INTERVAL, "Jobs: those that ended well of those planned.", ORDER, _variants(frame)),
        BOLD.format(reference=reference),
    ]
    return Table("Held-out institutions", headings, tuple(rows), _sentences(notes))


def in_federation_table(frame: pd.DataFrame, unit: str, checkpoint: str = "best", reference: str = "fedavg") -> Table:
    """Shows ``statistics.in_federation``."""
    best = {name: _best(frame, name, reference) for name in ("dice", "worst_site_dice", *_MEANS)}
    rows = [
        (*_scores_of(row, {name: marks[index] for name, marks in best.items()}, _MEANS), Cell(_jobs(row)))
        for index, row in enumerate(frame.to_dict("records"))
    ]
    notes = [
        f"Scores on the test cases of sites that trained, of {_CHECKPOINT[checkpoint]}; not comparable with scores at "
        "held-out institutions. A site that keeps parameters of its own is scored with its own model.",
        *_meanings(["dice", "dice_sd", "worst_site_dice", *_MEANS]),
        *("Jobs: those that ended well of those planned.", ORDER, BOLD.format(reference=reference)),
    ]
    return Table("In the federation", (*_score_headings(_MEANS, unit), "Jobs"), tuple(rows), _sentences(notes))


def sites_table(frame: pd.DataFrame, metric: str = "dice", unit: str = "") -> Table:
    """Shows ``statistics.per_site``: a column a held-out site."""
    measure = MEASURES[metric.split("/")[0]]
    sites = sorted(set(frame["site"]))
    rivals = frame[(frame["kind"] == "arm") & frame["complete"]]
    values = {site: list(rivals.loc[rivals["site"] == site, "value"]) for site in sites}
    rows = []
    for arm, of_arm in frame.groupby("arm", sort=False):
        found = {row["site"]: row for row in of_arm.to_dict("records")}
        cells = [_site_cell(found.get(site), metric, values[site]) for site in sites]
        rows.append((Cell(str(arm)), *cells))
    notes = [
        measure.meaning,
        f"{heading(metric, unit)} at every held-out site: mean over cases, then seeds, ± standard deviation over seeds "
        "(n/a for one). A star marks a cell with missing jobs.",
        _variants(frame),
        "Bold: the best of the arms that have all their jobs there, chosen after the fact.",
    ]
    return Table(f"{heading(metric, unit)} by held-out site", ("Arm", *sites), tuple(rows), _sentences(notes))


def classes_table(frame: pd.DataFrame, unit: str) -> Table:
    """Shows ``statistics.per_class``: a row an arm and class."""
    names = ["dice", "iou", "hd95", "assd", "miss"]
    rows = [
        (Cell(row["arm"]), Cell(row["class"]), *(Cell(MEASURES[name].text(row[name])) for name in names))
        for row in frame.to_dict("records")
    ]
    headings = ("Arm", "Class", *(heading(name, unit) for name in names))
    notes = ["Scores at institutions that took no part, by class.", *_meanings(names), ORDER]
    return Table("Held-out institutions by class", headings, tuple(rows), _sentences(notes))


def paired_table(paired: pd.DataFrame, wilcoxon: pd.DataFrame, reference: str = "fedavg") -> Table:
    """Shows ``statistics.paired`` with ``statistics.wilcoxon`` beside it, a column a held-out site."""
    sites = sorted(set(wilcoxon["site"]))
    tested = {(row["arm"], row["site"]): row for row in wilcoxon.to_dict("records")}
    rows = [
        (
            Cell(row["arm"]),
            Cell(with_interval(row["difference"], row["low"], row["high"])),
            Cell(_brackets(row["low_sites"], row["high_sites"])),
            Cell(f"{row['sites_better']}/{row['sites']}"),
            *(_tested(tested.get((row["arm"], site))) for site in sites),
        )
        for row in paired.to_dict("records")
    ]
    notes = [
        f"Difference in Dice to {reference} on the same cases, seeds and held-out sites (arm minus {reference}).",
        *(INTERVAL, GENERAL.format(sites=paired["sites"].max() if len(paired) else 0)),
        "Better at: held-out sites with a mean difference above 0.",
        f"By site: median difference of a case (mean over seeds) and p of Wilcoxon's signed-rank test over cases, "
        f"two-sided, adjusted after Holm over all {len(wilcoxon)} tests of this table; bold below 0.05. "
        "p is about the cases, given the trained models. n/a: undefined or not tested.",
        _variants(paired),
    ]
    headings = ("Arm", "Difference", "In general", "Better at", *(f"{site} (p)" for site in sites))
    return Table(f"Paired differences to {reference}", headings, tuple(rows), _sentences(notes))


def selection_table(frame: pd.DataFrame, reference: str = "fedavg") -> Table:
    """Shows ``statistics.selection``: what every rule picks at every held-out site, and the mean of what that gives."""
    sites = sorted(set(frame["site"]))
    rows = []
    for rule, of_rule in frame.groupby("rule", sort=False):
        found = {row["site"]: row for row in of_rule.to_dict("records")}
        mean = float(of_rule["dice"].mean(skipna=False))
        rows.append((Cell(str(rule)), *(_pick(found[site]) for site in sites), Cell(MEASURES["dice"].text(mean))))
    notes = [
        "For every held-out site the arm that a rule picks without a look at it, and that arm's Dice there.",
        "Source validation: the highest mean Dice on the validation cases of the training sites. "
        "Nested leave-one-source-out: the highest mean Dice at source sites that were left out of training too.",
        f"Reference: always {reference}. Oracle: the arm that is best at the held-out site, what a perfect rule would "
        "give. Mean: over the sites. n/a: the rule lacks jobs.",
    ]
    return Table("Choosing an arm", ("Rule", *sites, "Mean"), tuple(rows), _sentences(notes))


def claims_table(frame: pd.DataFrame) -> Table:
    """Shows ``statistics.claims``; the verdict of a row that decides its claim is bold."""
    rows = [
        (
            Cell(f"{row['claim']}. {row['statement']}"),
            Cell(row["arm"] or UNDEFINED),
            Cell(with_interval(row["difference"], row["low"], row["high"])),
            Cell(_brackets(row["low_sites"], row["high_sites"])),
            Cell(f"{row['sites_better']}/{row['sites']}"),
            Cell(row["verdict"], best=bool(row["decisive"])),
            Cell(row["note"]),
        )
        for row in frame.to_dict("records")
    ]
    notes = [
        "Difference in Dice at institutions that took no part, on the same cases, seeds and held-out sites.",
        *(INTERVAL, GENERAL.format(sites=frame["sites"].max() if len(frame) else 0)),
        "Within claims 2 and 3 both intervals are widened for the number of arms (Bonferroni).",
        "Holds, does not hold: the whole interval for these institutions lies on that side; not shown: all else. "
        "Bold: the rows that decide.",
    ]
    headings = ("Claim", "Arm", "Difference", "In general", "Better at", "Verdict", "Note")
    return Table("Claims", headings, tuple(rows), _sentences(notes))


def signed(value: float) -> str:
    """Writes a difference.

    >>> signed(0.0123), signed(-0.0123), signed(-0.0001), signed(float("nan"))
    ('+0.012', '-0.012', '0.000', 'n/a')
    """
    if not math.isfinite(value):
        return UNDEFINED
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def with_interval(value: float, low: float, high: float) -> str:
    """Writes a difference with its interval.

    >>> with_interval(0.0123, -0.001, 0.025), with_interval(0.0123, float("nan"), float("nan"))
    ('+0.012 [-0.001, +0.025]', '+0.012 [n/a]')
    """
    return f"{signed(value)} {_brackets(low, high)}" if math.isfinite(value) else UNDEFINED


def _brackets(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]" if math.isfinite(low) and math.isfinite(high) else f"[{UNDEFINED}]"


def p_value(p: float) -> str:
    """Writes a p-value.

    >>> p_value(0.0123), p_value(1e-6), p_value(float("nan"))
    ('0.012', '<0.001', 'n/a')
    """
    if not math.isfinite(p):
        return UNDEFINED
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _scores_of(row: Mapping[str, Any], best: Mapping[str, bool], names: Sequence[str]) -> tuple[Cell, ...]:
    """Name, Dice with its deviation, worst site, then what is named."""
    dice = _with_deviation("dice", row["dice"], row["dice_sd"])
    worst = MEASURES["worst_site_dice"].text(row["worst_site_dice"])
    if worst != UNDEFINED:
        worst = f"{worst} ({row['worst_site']})"
    cells = (Cell(MEASURES[name].text(row[name]), best[name]) for name in names)
    return Cell(row["arm"]), Cell(dice, best["dice"]), Cell(worst, best["worst_site_dice"]), *cells


def _score_headings(names: Sequence[str], unit: str) -> tuple[str, ...]:
    return ("Arm", "Dice ± SD ↑", *(heading(name, unit) for name in ("worst_site_dice", *names)))


def _with_deviation(metric: str, value: float, deviation: float) -> str:
    measure = MEASURES[metric.split("/")[0]]
    if not math.isfinite(value):
        return UNDEFINED
    return f"{measure.text(value)} ± {measure.text(deviation)}"


def _best(frame: pd.DataFrame, name: str, reference: str) -> list[bool]:
    """Says for every row whether its value is printed bold."""
    rivals = (frame["kind"] == "arm") & frame["complete"]
    missed = frame.loc[frame["arm"] == reference, "miss"]
    if name in ("hd95", "assd") and missed.notna().any():
        rivals &= frame["miss"] <= missed.iloc[0]
    values = [float(value) for value in frame.loc[rivals, name]]
    pairs = zip(frame[name], rivals, strict=True)
    return [bool(rival) and MEASURES[name].is_best(float(value), values) for value, rival in pairs]


def _site_cell(row: Mapping[str, Any] | None, metric: str, values: list[float]) -> Cell:
    if row is None:
        return Cell(UNDEFINED)
    best = row["kind"] == "arm" and row["complete"] and MEASURES[metric.split("/")[0]].is_best(row["value"], values)
    return Cell(_with_deviation(metric, row["value"], row["sd"]) + ("" if row["complete"] else " *"), bool(best))


def _tested(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell(UNDEFINED)
    return Cell(f"{signed(row['median'])} ({p_value(row['p_holm'])})", best=bool(row["p_holm"] < 0.05))


def _pick(row: Mapping[str, Any]) -> Cell:
    return Cell(f"{row['arm']} {MEASURES['dice'].text(row['dice'])}" if row["arm"] else UNDEFINED)


def _jobs(row: Mapping[str, Any]) -> str:
    failed = f" ({row['failed']} failed)" if row["failed"] else ""
    return f"{row['jobs']}/{row['planned']}{failed}"


def _meanings(names: Sequence[str]) -> list[str]:
    return [MEASURES[name].meaning for name in names]


def _variants(frame: pd.DataFrame) -> str:
    """Explains derived rows where there are some."""
    kinds = set(frame["kind"])
    human = "human is a second annotator, scored against the first." if "human" in kinds else ""
    return " ".join(filter(None, (VARIANTS if "oracle" in kinds else "", human)))


def _sentences(notes: Sequence[str]) -> str:
    return " ".join(filter(None, notes))
