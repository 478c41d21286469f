"""The figures of a report, with what can be seen in each for whoever cannot see it."""

from __future__ import annotations

import pandas as pd

from fedlight.benchmark.report.canvas import Picture
from fedlight.benchmark.report.facts import costs
from fedlight.benchmark.report.figures.cost import cost
from fedlight.benchmark.report.figures.curves import curves
from fedlight.benchmark.report.figures.dots import dots
from fedlight.benchmark.report.figures.forest import forest
from fedlight.benchmark.report.figures.heat_map import heat_map
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import fixed, interval, signed


def draw(findings: Findings) -> dict[str, Picture]:
    """Draws every figure for which there are numbers; by name."""
    drawn = (
        differences(findings),
        by_site(findings),
        fairness(findings),
        ranks(findings),
        learning(findings),
        price(findings),
        calibration(findings),
    )
    return {picture.name: picture for picture in drawn if picture is not None}


def differences(findings: Findings) -> Picture | None:
    """Draws the forest plot."""
    frame = findings.paired[findings.paired["kind"] == "arm"].dropna(subset="difference").set_index("arm")
    frame = frame.sort_values("difference", ascending=False)
    if frame.empty:
        return None
    said = "; ".join(
        f"{arm} {signed(row.difference)} {interval(row.low, row.high)}" for arm, row in _ends(frame).iterrows()
    )
    return forest(
        frame,
        findings.paired_by_site.reindex(frame.index),
        "differences",
        f"Paired differences of Dice to {findings.reference} at held-out sites",
        f"difference of Dice to {findings.reference} (right of 0 is better)",
        f"Forest plot with a row for each of {len(frame)} arms, the largest difference first. Ends: {said}.",
    )


def by_site(findings: Findings) -> Picture | None:
    """Draws the heat map."""
    values = findings.per_site["dice"].dropna(how="all")
    if values.empty:
        return None
    said = "; ".join(f"{site} from {fixed(values[site].min())} to {fixed(values[site].max())}" for site in values)
    return heat_map(
        values,
        "heat_map",
        "Mean Dice of every arm at every held-out site",
        "Dice",
        findings.reference,
        f"Heat map of {len(values)} arms by {values.shape[1]} held-out sites with the numbers in the cells: {said}.",
    )


def fairness(findings: Findings) -> Picture | None:
    """Draws how far apart the sites lie."""
    values = findings.per_site["dice"].dropna(how="all")
    if values.empty:
        return None
    gap = values.max(axis=1) - values.min(axis=1)
    return dots(
        values,
        "fairness",
        "How evenly the held-out sites are served",
        "mean Dice at the held-out site",
        findings.reference,
        f"A mark for every held-out site and a bar at their mean, a row an arm. Best and worst site lie "
        f"{fixed(gap.min())} apart for {gap.idxmin()} and {fixed(gap.max())} for {gap.idxmax()}.",
    )


def ranks(findings: Findings) -> Picture | None:
    """Draws the average ranks."""
    frame = findings.ranks.dropna(how="all")
    if frame.empty:
        return None
    means = frame.mean(axis=1)
    frame = frame.loc[means.sort_values().index]
    return dots(
        frame,
        "ranks",
        "Average rank of every arm",
        "rank among arms (left is better)",
        findings.reference,
        f"A mark for the average rank at every held-out site and a bar at the mean, a row an arm. {means.idxmin()} has "
        f"the best, {fixed(means.min(), 1)}; {means.idxmax()} the last, {fixed(means.max(), 1)}.",
        whole=True,
    )


def calibration(findings: Findings) -> Picture | None:
    """Draws the calibration error."""
    values = findings.per_site["ece"].dropna(how="all")
    if values.empty:
        return None
    means = values.mean(axis=1)
    return dots(
        values,
        "calibration",
        "Expected calibration error at held-out sites",
        "expected calibration error (left is better)",
        findings.reference,
        f"A mark for every held-out site and a bar at their mean, a row an arm: from {fixed(means.min())} "
        f"({means.idxmin()}) to {fixed(means.max())} ({means.idxmax()}).",
    )


def learning(findings: Findings) -> Picture | None:
    """Draws the learning curves of jobs that leave one site out."""
    points = findings.scores.curves
    points = points[points["held_out"].isin(findings.scores.sites)].dropna(subset="val_dice")
    if points.empty:
        return None
    over = points.groupby(["arm", "round"])["val_dice"]
    frame = pd.DataFrame({"mean": over.mean(), "low": over.min(), "high": over.max()}).reset_index()
    places = {arm: place for place, arm in reversed([*enumerate(map(base, findings.order))])}
    frame = frame.sort_values(["arm", "round"], key=lambda c: c.map(places) if c.name == "arm" else c, kind="stable")
    last = frame.groupby("arm")["mean"].max()
    return curves(
        frame,
        "learning_curves",
        "Source validation Dice by round",
        findings.reference,
        f"A panel for each of {len(last)} arms: mean over jobs by round with the range over jobs. The highest means "
        f"reached lie between {fixed(last.min())} ({last.idxmin()}) and {fixed(last.max())} ({last.idxmax()}).",
    )


def price(findings: Findings) -> Picture | None:
    """Draws Dice against communicated megabytes; an arm with several models is one point a row of the headline."""
    megabytes = costs(findings.scores, findings.reference).set_index("arm")["megabytes"]
    frame = findings.headline[findings.headline["kind"] == "arm"].set_index("arm")[["dice"]]
    frame["megabytes"] = [megabytes.get(base(arm)) for arm in frame.index]
    frame = frame.astype(float).dropna()
    if frame.empty:
        return None
    best = frame["dice"].idxmax()
    return cost(
        frame,
        "cost",
        "Dice at held-out sites against what was communicated",
        ("megabytes sent in a job, up and down, all sites", "mean Dice at held-out sites"),
        findings.reference,
        f"A point an arm. Megabytes range from {fixed(frame['megabytes'].min(), 1)} to "
        f"{fixed(frame['megabytes'].max(), 1)}; the highest Dice, {fixed(frame['dice'].max())}, is that of {best} at "
        f"{fixed(frame['megabytes'][best], 1)} megabytes.",
    )


def base(arm: str) -> str:
    """Returns the arm behind a row such as "local (mean)".

    >>> base("local (mean)"), base("fedavg")
    ('local', 'fedavg')
    """
    return arm.split(" (")[0]


def _ends(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if len(frame) < 3 else frame.iloc[[0, -1]]
