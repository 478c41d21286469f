"""Every statistic that a report shows, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from fedlight.benchmark import statistics
from fedlight.benchmark.paired import pairs
from fedlight.benchmark.scores import ResultsError, Scores
from fedlight.benchmark.variants import held_out_cases
from fedlight.messages import nearest


@dataclass(frozen=True, slots=True)
class Findings:
    """The frames of ``fedlight.benchmark.statistics``, and the choices under which they were computed.

    Args:
        scores: All results.
        checkpoint: "best" or "last".
        reference: The arm that all others are compared with.
        headline: At the institutions that took no part.
        in_federation: On test cases of the sites that trained.
        sites: Dice of every arm at every held-out site, a row each.
        per_site: Metric -> arm by held-out site.
        ranks: Arm by held-out site: the average rank there over seeds.
        paired: Differences to the reference, over all sites.
        paired_by_site: Arm by held-out site: the same difference at that site alone.
        wilcoxon: Tests within a site.
        claims: Verdicts.
        selection: What declared rules pick.
        per_class: By foreground class.
    """

    scores: Scores
    checkpoint: str
    reference: str
    headline: pd.DataFrame
    in_federation: pd.DataFrame
    sites: pd.DataFrame
    per_site: dict[str, pd.DataFrame]
    ranks: pd.DataFrame
    paired: pd.DataFrame
    paired_by_site: pd.DataFrame
    wilcoxon: pd.DataFrame
    claims: pd.DataFrame
    selection: pd.DataFrame
    per_class: pd.DataFrame

    @property
    def order(self) -> list[str]:
        """All arms in the order of the headline table."""
        return list(self.headline["arm"])


def find(scores: Scores, checkpoint: str, reference: str) -> Findings:
    """Computes everything.

    Args:
        scores: All results.
        checkpoint: "best" or "last".
        reference: The arm that all others are compared with.

    Raises:
        ResultsError: If the results have no such arm.
    """
    headline = statistics.headline(scores, checkpoint, reference)
    if reference not in set(headline["arm"]):
        known = nearest(reference, headline["arm"])
        raise ResultsError(f"--reference must be an arm of the results, got {reference}. {known}")
    return Findings(
        scores=scores,
        checkpoint=checkpoint,
        reference=reference,
        headline=headline,
        in_federation=statistics.in_federation(scores, checkpoint),
        sites=statistics.per_site(scores, checkpoint),
        per_site={metric: _wide(scores, checkpoint, metric, headline) for metric in ("dice", "ece")},
        ranks=_ranks(scores, checkpoint),
        paired=statistics.paired(scores, checkpoint, reference),
        paired_by_site=_paired_by_site(scores, checkpoint, reference),
        wilcoxon=statistics.wilcoxon(scores, checkpoint, reference),
        claims=statistics.claims(scores, checkpoint, reference),
        selection=statistics.selection(scores, checkpoint, reference),
        per_class=statistics.per_class(scores, checkpoint),
    )


def _wide(scores: Scores, checkpoint: str, metric: str, headline: pd.DataFrame) -> pd.DataFrame:
    """Returns a metric with a row an arm, in the headline's order, and a column a site."""
    long = statistics.per_site(scores, checkpoint, metric)
    return long.pivot(index="arm", columns="site", values="value").reindex(headline["arm"])


def _paired_by_site(scores: Scores, checkpoint: str, reference: str) -> pd.DataFrame:
    """Returns the paired difference of every arm at every site alone, over cases, then seeds."""
    frame = pairs(held_out_cases(scores.cases, checkpoint), reference)
    over_cases = frame.groupby(["arm", "held_out", "seed"])["difference"].mean()
    return over_cases.groupby(["arm", "held_out"]).mean().unstack().reindex(columns=list(scores.sites))


def _ranks(scores: Scores, checkpoint: str) -> pd.DataFrame:
    """Returns the average rank of every arm at every held-out site, over seeds."""
    cases = held_out_cases(scores.cases, checkpoint)
    means = cases[cases["kind"] == "arm"].groupby(["held_out", "seed", "arm"])["dice"].mean().unstack()
    return means.rank(axis=1, ascending=False).groupby("held_out").mean().T
