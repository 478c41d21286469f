"""Bytes of a whole run, added up round by round from what crosses in the rounds that were played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from fedlight.cohort import panel
from fedlight.disclosure.rehearsal import Rehearsal
from fedlight.plugins import Lossless
from fedlight.run import Run

if TYPE_CHECKING:
    from fedlight.federation import Federation


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes of a run.

    Attributes:
        up: Of updates, by site.
        down: Of what sites are sent to train, by site.
        evaluate: Of what they are sent to score it, by site.
        cohort: How many sites take part in a round, fewest and most.
        how: "" if they are exact; "about" if they depend on values; "at most" if they depend on who takes part.
    """

    up: Mapping[str, int]
    down: Mapping[str, int]
    evaluate: Mapping[str, int]
    cohort: tuple[int, int]
    how: str

    @property
    def all(self) -> int:
        """Everything together."""
        return sum(map(sum, (self.up.values(), self.down.values(), self.evaluate.values())))


def totals(federation: Federation, run: Run, rehearsal: Rehearsal) -> Totals:
    """Adds up what crosses in all rounds of a run, whose plans are used up."""
    up, down, evaluate = Counter[str](), Counter[str](), Counter[str]()
    scoring = panel(run.sites, federation.evaluate_sites, federation.seed)
    sizes = []
    for number, plan in enumerate(islice(run.plans, federation.rounds), start=1):
        sizes.append(len(plan.starts))
        for site in plan.starts:
            up[site] += sum(rehearsal.at(site, number).bytes_up.values())
            down[site] += sum(rehearsal.at(site, number).bytes_down.values())
        if number % federation.evaluate_every == 0 or number == federation.rounds:
            evaluate.update({site: rehearsal.at(site, number).bytes_evaluate for site in scoring})
    return Totals(up, down, evaluate, (min(sizes), max(sizes)), _how(federation, run.sites, min(sizes)))


def _how(federation: Federation, sites: Collection[str], fewest: int) -> str:
    codecs = (*federation.local.compression.uplink, *federation.local.compression.downlink)
    if any(isinstance(codec, Lossless) for codec in codecs):
        return "about"
    return "at most" if fewest < len(sites) else ""
