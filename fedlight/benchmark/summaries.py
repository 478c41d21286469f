"""Means over cases, seeds and sites for every arm: at institutions that took no part, and within the federation.

The unit of analysis is a case: the mean over the cases of a site in one job, then over seeds, then over sites, so that
every institution counts the same however many cases it has. Where no job is missing, means over seeds and sites can be
taken in either order; where some are, seeds come first, so that a missing job does not shift the weight between sites.
What is undefined is left out of a mean.
"""

from __future__ import annotations

import pandas as pd

from fedlight.benchmark.layout import HUMAN
from fedlight.benchmark.paired import compare
from fedlight.benchmark.scores import Scores
from fedlight.benchmark.variants import KINDS, held_out_cases, in_federation_cases, metrics_of

_WHO = ["arm", "base", "kind"]
_CELL = [*_WHO, "held_out", "site", "seed"]
_MEANS = ["dice", "iou", "hd95", "assd", "miss", "ece", "brier"]
_INTERVALS = ["difference", "low", "high", "low_sites", "high_sites"]
_COUNTS = ["jobs", "planned", "failed", "complete"]
_SUMMARY = ["arm", "kind", "dice", "dice_sd", "worst_site", "worst_site_dice", "worst_decile", *_MEANS[1:]]


def headline(scores: Scores, checkpoint: str = "best", reference: str = "fedavg") -> pd.DataFrame:
    """Summarises every arm at the institutions that took no part, best mean Dice first, oracle and human rows last.

    Returns:
        One row an arm: arm, kind ("arm", "oracle", "human"), dice, dice_sd (over seeds, of the mean over sites, ddof 1;
        of the seeds that have every site of the arm, NaN for one), worst_site and worst_site_dice (the site with the
        lowest mean), worst_decile (mean of the lowest tenth of a site's cases, at least one, then over seeds and
        sites), iou, hd95, assd (of cases in which the structure was found), miss, ece, brier, val_dice (the training
        sites' validation cases), rank (mean over held-out sites and seeds of the place among the arms that have a
        result there, ties share), difference, low, high, low_sites, high_sites (to the reference, as ``paired`` has
        them), jobs (that ended well), planned (all held-out sites times all seeds that any arm has), failed, complete.
    """
    cases = held_out_cases(scores.cases, checkpoint)
    frame = _summary(cases, scores)
    frame["val_dice"] = frame["base"].map(_validation(scores, checkpoint))
    frame["rank"] = frame["arm"].map(_ranks(cases))
    frame = frame.merge(compare(cases, reference)[["arm", *_INTERVALS]], on="arm", how="left")
    return frame[[*_SUMMARY, "val_dice", "rank", *_INTERVALS, *_COUNTS]]


def in_federation(scores: Scores, checkpoint: str = "best") -> pd.DataFrame:
    """Summarises every arm on the test cases of the sites that trained, each with the model that it would use itself.

    Returns:
        One row an arm: arm, kind, dice, dice_sd, worst_site, worst_site_dice, worst_decile, iou, hd95, assd, miss, ece,
        brier, jobs, planned, failed, complete, as ``headline`` has them; means are over the training sites of a job
        first.
    """
    frame = _summary(in_federation_cases(scores.cases, checkpoint), scores)
    return frame.loc[frame["kind"] == "arm", [*_SUMMARY, *_COUNTS]].reset_index(drop=True)


def per_site(scores: Scores, checkpoint: str = "best", metric: str = "dice") -> pd.DataFrame:
    """Returns a metric of every arm at every held-out site, arms in the order of ``headline``.

    Returns:
        One row an arm and site: arm, kind, site, value, sd (over seeds, ddof 1), seeds, cases, complete (whether all
        seeds that any arm has are there).
    """
    cases = held_out_cases(scores.cases, checkpoint)
    cells = cases.groupby([*_WHO, "site", "seed"])[metric].agg(["mean", "size"]).reset_index()
    groups = cells.groupby([*_WHO, "site"])
    frame = groups.agg(value=("mean", "mean"), sd=("mean", "std"), seeds=("seed", "nunique"), cases=("size", "max"))
    frame = frame.reset_index()
    frame["complete"] = (frame["seeds"] == len(scores.seeds)) | (frame["kind"] == HUMAN)
    place = {arm: position for position, arm in enumerate(_summary(cases, scores)["arm"])}
    frame = frame.sort_values(["arm", "site"], key=lambda column: column.map(place) if column.name == "arm" else column)
    return frame.drop(columns="base").reset_index(drop=True)


def per_class(scores: Scores, checkpoint: str = "best") -> pd.DataFrame:
    """Returns dice, iou, hd95, assd and miss of every arm and foreground class at the held-out sites.

    Returns:
        One row an arm and class, arms in the order of ``headline``: arm, kind, class, metrics.
    """
    cases = held_out_cases(scores.cases, checkpoint)
    summary, means = _summary(cases, scores), _over_sites(_cells(cases))
    names = ["dice", "iou", "hd95", "assd", "miss"]
    suffix = {name: f"/{name}" for name in scores.classes} if len(scores.classes) > 1 else {scores.classes[0]: ""}
    rows = [
        {"arm": arm, "kind": kind, "class": label}
        | {name: means[f"{name}{end}"].get((arm, base, kind)) for name in names}
        for arm, base, kind in summary[_WHO].itertuples(index=False)
        for label, end in suffix.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "kind", "class", *names]).astype(dict.fromkeys(names, float))


def incomplete(scores: Scores, cases: pd.DataFrame) -> dict[str, str]:
    """Says for every arm with missing or failed jobs, by its variants in ``held_out_cases``, how many it has."""
    counts = _job_counts(scores)
    bases = cases.groupby("arm")["base"].first()
    return {
        arm: f"{counts.at[base, 'jobs']} of {counts.at[base, 'planned']} jobs"
        for arm, base in bases.items()
        if not counts.at[base, "complete"]
    }


def _summary(cases: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """Returns a row for every arm of the results, in the order of a table."""
    cells = _cells(cases)
    means = _over_sites(cells)[[*_MEANS, "worst_decile"]]
    frame = pd.concat([means, _seed_deviation(cells), _worst_site(cells)], axis=1).reset_index()
    frame = pd.concat([frame, _without_results(frame, scores)], ignore_index=True)
    frame = frame.merge(_job_counts(scores), left_on="base", right_index=True)
    order = frame["kind"].map(KINDS.index)
    return (
        frame.assign(order=order)
        .sort_values(["order", "dice", "arm"], ascending=[True, False, True])[[*frame.columns]]
        .reset_index(drop=True)
    )


def _cells(cases: pd.DataFrame) -> pd.DataFrame:
    """Returns the means over cases of every job at every site, and its worst decile, by ``_CELL``."""
    groups = cases.groupby(_CELL)
    place, number = groups["dice"].rank(method="first"), groups["dice"].transform("count")
    lowest = cases["dice"].where(place <= -(-number // 10))
    decile = lowest.groupby([cases[name] for name in _CELL]).mean()
    return groups[metrics_of(cases)].mean().assign(worst_decile=decile)


def _over_sites(cells: pd.DataFrame) -> pd.DataFrame:
    """Averages over seeds, then over the sites of a job, then over held-out sites."""
    by_site = cells.groupby([*_WHO, "held_out", "site"]).mean()
    return by_site.groupby([*_WHO, "held_out"]).mean().groupby(_WHO).mean()


def _seed_deviation(cells: pd.DataFrame) -> pd.Series:
    """Standard deviation over seeds of the mean over sites, of the seeds that have every site of the arm."""
    jobs = cells["dice"].groupby([*_WHO, "seed", "held_out"]).mean()
    seeds = jobs.groupby([*_WHO, "seed"]).agg(["mean", "count"])
    most = seeds["count"].groupby(_WHO).transform("max")
    return seeds["mean"].where(seeds["count"] == most).groupby(_WHO).std().rename("dice_sd")


def _worst_site(cells: pd.DataFrame) -> pd.DataFrame:
    sites = cells["dice"].groupby([*_WHO, "site"]).mean().rename("worst_site_dice").reset_index("site")
    sites = sites.rename(columns={"site": "worst_site"}).sort_values(["worst_site_dice", "worst_site"])
    return sites.groupby(_WHO).head(1)


def _without_results(frame: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """Rows of the arms of which no job ended well."""
    absent = [arm for arm in scores.arms if arm not in set(frame["base"])]
    return pd.DataFrame({"arm": absent, "base": absent, "kind": ["arm"] * len(absent)}, dtype=str)


def _job_counts(scores: Scores) -> pd.DataFrame:
    jobs = scores.jobs[~scores.jobs["nested"]]
    ok = jobs["status"] == "ok"
    counts = pd.DataFrame({"jobs": ok.groupby(jobs["arm"]).sum(), "failed": (~ok).groupby(jobs["arm"]).sum()})
    counts.insert(1, "planned", len(scores.sites) * len(scores.seeds))
    counts.loc[counts.index == HUMAN, "planned"] = counts["jobs"] + counts["failed"]
    return counts.assign(complete=counts["jobs"] == counts["planned"])


def _validation(scores: Scores, checkpoint: str) -> pd.Series:
    jobs = scores.jobs[~scores.jobs["nested"] & (scores.jobs["status"] == "ok")]
    column = "val_dice" if checkpoint == "best" else "last_val_dice"
    return jobs.groupby(["arm", "held_out"])[column].mean().groupby("arm").mean()


def _ranks(cases: pd.DataFrame) -> pd.Series:
    arms = cases[cases["kind"] == "arm"]
    dice = arms.groupby(["held_out", "seed", "arm"])["dice"].mean()
    return dice.groupby(["held_out", "seed"]).rank(ascending=False).groupby("arm").mean()
