"""Who takes part in a round, and who scores its model: drawn by the run's seed alone, so a resumed run repeats it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch

from fedlight.randomness import generator

Sampling = Literal["fixed", "poisson"]

_LEAST_CHANCE = 0.01
"""Of a Poisson draw to have enough sites; with less, a round might be drawn again for ever."""


@dataclass(frozen=True, slots=True)
class Cohorts:
    """The sites of every round.

    "fixed" draws a fixed number of sites, ``share`` of all of them, without replacement. "poisson" lets every site
    take part with probability ``share``, whatever the others do; a draw of fewer than ``min_sites`` is drawn again. An
    accountant of privacy that presumes Poisson sampling is right only as far as that hardly ever happens.

    Attributes:
        sites: All sites, in their fixed order.
        share: In (0, 1].
        sampling: How sites are drawn.
        min_sites: How many a round needs.
        seed: The run's.
        trace: Which sites can be reached, round by round, each at least ``min_sites``; begins anew when it is over.
            Empty: all, always.
    """

    sites: tuple[str, ...]
    share: float
    sampling: Sampling = "fixed"
    min_sites: int = 1
    seed: int = 0
    trace: Sequence[AbstractSet[str]] = ()

    def reached(self, round: int) -> AbstractSet[str]:
        """Returns the sites that can be reached in a round (from 1)."""
        return self.trace[(round - 1) % len(self.trace)] if self.trace else frozenset(self.sites)

    def draw(self, round: int) -> tuple[str, ...]:
        """Returns the sites of a round (from 1), in the sites' own order."""
        there = self.reached(round)
        drawn = self._poisson(round, there) if self.sampling == "poisson" else self._fixed(round, there)
        return tuple(site for site in self.sites if site in drawn)

    def _fixed(self, round: int, there: AbstractSet[str]) -> AbstractSet[str]:
        order = torch.randperm(len(self.sites), generator=generator(self.seed, round, "cohort")).tolist()
        reached = [self.sites[index] for index in order if self.sites[index] in there]
        return set(reached[: cohort_size(self.share, len(self.sites))])

    def _poisson(self, round: int, there: AbstractSet[str]) -> AbstractSet[str]:
        for attempt in count():
            draws = torch.rand(len(self.sites), generator=generator(self.seed, round, "cohort", attempt)).tolist()
            drawn = {site for site, draw in zip(self.sites, draws, strict=True) if draw < self.share and site in there}
            if len(drawn) >= self.min_sites:
                break
        return drawn


def cohort_size(share: float, num_sites: int) -> int:
    """Returns how many sites take part in a round under "fixed".

    >>> cohort_size(0.25, 20)
    5
    """
    return max(1, round(share * num_sites))


def panel(sites: tuple[str, ...], number: int | None, seed: int) -> tuple[str, ...]:
    """Returns the sites that score every round's model: the same in all rounds, so that rounds can be compared.

    Args:
        sites: All sites.
        number: How many; None: all.
        seed: The run's.
    """
    if number is None:
        return sites
    drawn = torch.randperm(len(sites), generator=generator(seed, "panel"))
    return tuple(sites[index] for index in sorted(drawn[:number].tolist()))


def plan(
    sites: tuple[str, ...],
    share: float,
    sampling: Sampling,
    min_sites: int,
    seed: int,
    availability: str | None,
    held_out: Sequence[str] = (),
) -> Cohorts:
    """Makes the cohorts of a run; rounds of the trace in which fewer than ``min_sites`` can be reached are left out.

    Args:
        sites: All sites.
        share: In (0, 1].
        sampling: How sites are drawn.
        min_sites: How many a round needs.
        seed: The run's.
        availability: A file, see ``read_trace``; None: all sites can always be reached.
        held_out: Institutions that take no part, which the file must not name.

    Raises:
        ValueError: If there cannot be rounds with enough sites, or the file cannot be used.
    """
    trace: list[frozenset[str]] = []
    if availability is not None:
        trace = [there for there in read_trace(Path(availability), sites, held_out) if len(there) >= min_sites]
        if not trace:
            raise ValueError(
                f"availability must have a round with min_sites ({min_sites}) sites or more, but {availability} has "
                "none. Lower min_sites."
            )
    fewest = min(map(len, trace), default=len(sites))
    if sampling == "poisson" and (chance := chance_of(min_sites, fewest, share)) < _LEAST_CHANCE:
        raise ValueError(
            f"cohort must give min_sites ({min_sites}) of {fewest} sites with a chance of at least {_LEAST_CHANCE:g} "
            f"under poisson, got {share:g} (chance {chance:.1g}). Raise it, or lower min_sites."
        )
    return Cohorts(sites, share, sampling, min_sites, seed, trace)


def chance_of(least: int, sites: int, share: float) -> float:
    """Returns the probability that at least so many of the sites take part, each independently with ``share``.

    >>> chance_of(1, 2, 0.5), chance_of(2, 2, 0.5), chance_of(3, 2, 1.0)
    (0.75, 0.25, 0.0)
    """
    terms = (math.comb(sites, k) * share**k * (1 - share) ** (sites - k) for k in range(least, sites + 1))
    return math.fsum(terms)


def read_trace(path: Path, sites: Sequence[str], held_out: Sequence[str] = ()) -> list[frozenset[str]]:
    """Reads which sites can be reached, round by round.

    A CSV file has the columns round,site: one line for every site that can be reached in a round, whose numbers count
    in their order. A JSON file is a list of rounds, each a list of sites.

    Raises:
        ValueError: If the file cannot be read, holds no round or names a site that does not train.
    """
    rounds = _rounds(path)
    if not rounds:
        raise ValueError(
            f"availability must hold one round or more, but {path} is empty. Write a line for every site that can be "
            "reached in a round (1,site1), or leave it out."
        )
    if unknown := sorted(set().union(*rounds).difference(sites)):
        why = ", which is held out" if unknown[0] in held_out else ""
        raise ValueError(
            f"availability must name sites of the federation that train, got {unknown[0]} in {path}{why}. Take it out."
        )
    return rounds


def _rounds(path: Path) -> list[frozenset[str]]:
    try:
        return _json(path) if path.suffix == ".json" else _csv(path)
    except OSError as error:
        raise ValueError(
            f"availability must be a file that can be read, got {path} ({error.strerror}). Check the path."
        ) from error
    except (ValueError, KeyError) as error:
        reason = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"availability must be a CSV file with the columns round,site or a JSON list of lists of sites, got {path} "
            f"({reason}). A line is a number and a site, for instance 1,site1."
        ) from error


def _csv(path: Path) -> list[frozenset[str]]:
    rounds: dict[int, set[str]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.DictReader(file)
        for row in lines:
            number, site = row["round"], row["site"]
            if site is None or not number.strip().isdecimal():
                raise ValueError(f"line {lines.line_num} has {number!r} as round and {site or ''!r} as site")
            rounds.setdefault(int(number), set()).add(site)
    return [frozenset(rounds[number]) for number in sorted(rounds)]


def _json(path: Path) -> list[frozenset[str]]:
    text = path.read_text()
    rounds: Any = json.loads(text) if text.strip() else []
    if not isinstance(rounds, list) or any(not isinstance(there, list) for there in rounds):
        raise ValueError("it is no list of lists")
    return [frozenset(map(str, there)) for there in rounds]
