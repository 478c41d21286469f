"""What was compared and how, in plain words with the numbers of this benchmark."""

from __future__ import annotations

from fedlight.benchmark.layout import TUNED
from fedlight.benchmark.report.facts import Done
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import counted, listed

SELECTED = {
    "best": "Scored is the model of the round with the best mean Dice on validation cases of the sites that trained; "
    "the held-out site has no part in that choice.",
    "last": "Scored is the model of the last round; nothing was selected.",
}


def protocol(findings: Findings) -> list[str]:
    """Returns the protocol as sentences, a paragraph each."""
    scores = findings.scores
    seeds = [str(seed) for seed in scores.seeds]
    turn = "Every site was held out in turn: the others trained" if len(scores.sites) > 1 else "Other sites trained"
    return [
        f"{counted(len(scores.arms), 'arm')} (an arm is a method, or several combined, with its settings) were "
        f"compared at {counted(len(scores.sites), 'held-out site')}: {listed(scores.sites)}. {turn}, and the held-out "
        "site, which no part of training saw, was scored once, at the end. "
        f"This was done with {counted(len(seeds), 'seed')} ({listed(seeds)}).",
        SELECTED[findings.checkpoint],
        "Arms are compared in pairs: the same case of the same held-out site, after training with the same seed. A "
        "mean is taken over the cases of a site first, then over seeds, then over sites, so that a site with many "
        "cases weighs no more than one with few.",
        *([_SEARCHED] if any(arm.endswith(TUNED) for arm in scores.arms) else []),
        smallness(findings),
    ]


_SEARCHED = (
    f"The settings of arms that end in {TUNED} were chosen by random search, for every held-out site anew: by the mean "
    "Dice on validation cases of the sites that trained, on one seed. The held-out site has no part in it."
)


def smallness(findings: Findings) -> str:
    """Says how far the number of sites carries."""
    number = len(findings.scores.sites)
    if number < 2:
        return (
            "There is one held-out site. Nothing here says how the arms compare at any other institution; intervals "
            "describe the cases and seeds of this one."
        )
    return (
        f"The number of sites is small ({number}). An interval for these sites says how sure a difference is here; "
        "the interval for institutions in general treats the sites as a sample and is much wider, as it should be: "
        f"{number} institutions cannot stand for all."
    )


def completeness(jobs: Done) -> str:
    """Says how much of the plan was done."""
    text = f"{jobs.done} of {counted(jobs.planned, 'planned job')} done, {jobs.failed} failed, {jobs.missing} missing"
    return f"{text}; {counted(jobs.nested, 'nested job')} beside them." if jobs.nested else f"{text}."
