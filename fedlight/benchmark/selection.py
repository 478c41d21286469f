"""Rules that pick one arm for every held-out site without a look at it, and what they pick.

A method that says how it was chosen can be used at a new institution; the best column of a table cannot. Both rules use
only what a federation without the held-out site has:

- Source validation: the arm with the highest mean Dice on the training sites' validation cases, over the seeds of the
  jobs in which that site is held out. It needs no further training, and knows nothing of unseen institutions.
- Nested leave-one-source-out: the arm with the highest Dice at a source site that was left out too, in jobs that leave
  that source site and the held-out site out; the mean over all source sites. Only the source site is scored.

An arm is a candidate if it has what the rule needs for every source site that any arm has it for.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from fedlight.benchmark.layout import HUMAN
from fedlight.benchmark.scores import Scores
from fedlight.benchmark.variants import CHECKPOINTS, held_out_cases

VALIDATION = "source validation"
NESTED = "nested leave-one-source-out"
REFERENCE = "reference"
ORACLE = "oracle"

_COLUMNS = ["rule", "site", "arm", "criterion", "dice", "candidates"]


def selection(
    scores: Scores, checkpoint: str = "best", reference: str = "fedavg", without: Collection[str] = ("local", "pooled")
) -> pd.DataFrame:
    """Applies the two declared rules at every held-out site, with the reference and the oracle beside them.

    The oracle is the arm that is best at the held-out site: what a perfect rule would give. Of several equal arms the
    first by name is picked.

    Args:
        scores: Results.
        checkpoint: "best" or "last".
        reference: The arm that is used without a rule.
        without: Arms that a federation cannot choose, also where something is added to them ("pooled+bigaug").

    Returns:
        One row a rule and site: rule ("source validation", "nested leave-one-source-out", "reference", "oracle"),
        site, arm ("" where the rule cannot pick), criterion (what the arm was picked by), dice (of that arm at the
        held-out site, the mean over seeds; NaN where it has no job there), candidates (number of arms to choose from).
    """
    dice = _dice(held_out_cases(scores.cases, checkpoint), without)
    validation = _validation(scores, checkpoint, without)
    nested = _nested(held_out_cases(scores.nested, checkpoint), without)
    rows = []
    for site in scores.sites:
        there = dice.get(site, _NOTHING)
        own = there[there.index == reference]
        criteria = {VALIDATION: validation.get(site, _NOTHING), NESTED: nested.get(site, _NOTHING), REFERENCE: own}
        rows += [_picked(rule, site, by, there) for rule, by in (criteria | {ORACLE: there}).items()]
    order = {rule: position for position, rule in enumerate((VALIDATION, NESTED, REFERENCE, ORACLE))}
    return pd.DataFrame(rows, columns=_COLUMNS).sort_values(
        ["rule", "site"], key=lambda column: column.map(order) if column.name == "rule" else column, ignore_index=True
    )


_NOTHING = pd.Series(dtype=float)


def _picked(rule: str, site: str, criterion: pd.Series, dice: pd.Series) -> dict[str, object]:
    criterion = criterion.dropna().sort_index()
    arm = str(criterion.idxmax()) if len(criterion) else ""
    return {
        "rule": rule,
        "site": site,
        "arm": arm,
        "criterion": criterion.get(arm, float("nan")),
        "dice": dice.get(arm, float("nan")),
        "candidates": len(criterion),
    }


def _allowed(arms: pd.Series, without: Collection[str]) -> pd.Series:
    return ~arms.str.split("+").str[0].isin({*without, HUMAN})


def _dice(cases: pd.DataFrame, without: Collection[str]) -> dict[str, pd.Series]:
    """Returns by held-out site: Dice of every arm there, by arm."""
    kept = cases[_allowed(cases["base"], without) & (cases["kind"] == "arm")]
    means = kept.groupby(["held_out", "arm", "seed"])["dice"].mean().groupby(["held_out", "arm"]).mean()
    return {str(site): values.droplevel("held_out") for site, values in means.groupby("held_out")}


def _validation(scores: Scores, checkpoint: str, without: Collection[str]) -> dict[str, pd.Series]:
    """Returns by held-out site: the validation Dice of every arm, by arm."""
    column = dict(zip(CHECKPOINTS, ("val_dice", "last_val_dice"), strict=True))[checkpoint]
    jobs = scores.jobs[~scores.jobs["nested"] & (scores.jobs["status"] == "ok")]
    means = jobs[_allowed(jobs["arm"], without)].groupby(["held_out", "arm"])[column].mean()
    return {str(site): values.droplevel("held_out") for site, values in means.groupby("held_out")}


def _nested(cases: pd.DataFrame, without: Collection[str]) -> dict[str, pd.Series]:
    """Returns by held-out site: the mean Dice at the other sites of its pairs, of the arms that have all of them."""
    kept = cases[_allowed(cases["base"], without) & (cases["kind"] == "arm")]
    means = kept.groupby(["held_out", "site", "arm", "seed"])["dice"].mean().groupby(["held_out", "site", "arm"]).mean()
    inner = means.rename("dice").reset_index()
    inner["outer"] = [_other(pair, site) for pair, site in zip(inner["held_out"], inner["site"], strict=True)]
    tables = {
        str(outer): rows.pivot(index="arm", columns="site", values="dice") for outer, rows in inner.groupby("outer")
    }
    return {outer: table.dropna().mean(axis=1) for outer, table in tables.items()}


def _other(pair: str, site: str) -> str:
    """Returns the other site of a pair.

    >>> _other("chase+drive", "chase")
    'drive'
    """
    return pair.removeprefix(f"{site}+") if pair.startswith(f"{site}+") else pair.removesuffix(f"+{site}")
