"""When sites work: in step, up to a deadline, or each at its own pace.

By the simulated clock, how long a site takes is drawn, in units of a usual site's round, so a run is the same on every
machine and can be gone on with; which updates a round has depends on that and on the seed alone, never on what was
learned, and ``plans`` says it beforehand. By the real clock nobody knows it beforehand: ``ask`` says who begins, and
what the server waits for.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from fedlight.cohort import Cohorts
from fedlight.randomness import generator

Clock = Literal["simulated", "real"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a round.

    Attributes:
        starts: The sites whose updates arrive, in the sites' own order, and the version of the model that each starts
            from: 0 is the initial one, t that after round t.
        late: Sites that worked in vain.
        time: Simulated time at which the round ends; None where none is simulated.
        pending: Versions that sites at work will still come back to.
        cohort: Sites of the round beside those whose updates arrive, as far as they matter: all, in the sites' order;
            empty for those in ``starts``.
        dated: Whether sites take the round that follows their version for the one that they work in, as with the real
            clock, by which they cannot know in which round they arrive.
    """

    starts: Mapping[str, int]
    late: tuple[str, ...] = ()
    time: float | None = None
    pending: frozenset[int] = frozenset()
    cohort: tuple[str, ...] = ()
    dated: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """What the server does in a round by the real clock.

    Attributes:
        sites: Who begins now, with the newest version, in the sites' own order.
        enough: Updates with which the round goes on.
        seconds: After these it goes on with fewer, if they are as many as it needs; None waits for enough.
        ends: Whether all others end their work then, in vain; else they go on and arrive in a later round.
    """

    sites: tuple[str, ...]
    enough: int
    seconds: float | None = None
    ends: bool = True


class Schedule(ABC):
    """Says for every round whose updates arrive, and from which version of the model.

    Attributes:
        exponent: a of the factor (1 + staleness)^-a of what a site changed; staleness is the number of versions that
            were made since its own.
        clock: Whether the times of sites are simulated or real.
    """

    exponent: float = 0.0
    clock: Clock = "simulated"

    @property
    def dated(self) -> bool:
        """See ``Plan.dated``."""
        return self.clock == "real"

    @property
    def most(self) -> float:
        """How many rounds it has plans for."""
        return math.inf

    @property
    def left_to_chance(self) -> bool:
        """Whether no site takes part more often than the draw of cohorts says."""
        return True

    def check(self, num_sites: int, min_sites: int) -> None:  # noqa: B027 - what takes no arguments checks none
        """Checks the arguments against the federation.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """

    @abstractmethod
    def plans(self, cohorts: Cohorts) -> Iterator[Plan]:
        """Yields the plans of all rounds from the first, by the simulated clock."""

    def ask(self, cohorts: Cohorts, number: int, at_work: Collection[str]) -> Ask:
        """Says who begins in a round and how long the server waits, by the real clock.

        Args:
            cohorts: Of the run.
            number: Of the round, from 1.
            at_work: Sites that are at work since an earlier round.
        """
        raise NotImplementedError


class Synchronous(Schedule):
    """Every round waits for all of its sites."""

    def plans(self, cohorts: Cohorts) -> Iterator[Plan]:
        """Yields the cohort of every round, at work from the newest version."""
        number = 1
        while True:
            yield Plan(dict.fromkeys(cohorts.draw(number), number - 1))
            number += 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How long sites take, in units of a usual site's round: lognormal.

    Attributes:
        seed: The run's.
        spread: Standard deviation of the logarithm between sites; 1 makes the slowest of ten some ten times slower than
            the fastest.
        jitter: The same between the rounds of a site.
    """

    seed: int
    spread: float
    jitter: float

    def time(self, site: str, turn: int) -> float:
        """Returns how long a site takes when it works for the turn-th time."""
        own = torch.randn((), generator=generator(self.seed, "pace", site), dtype=torch.float64)
        now = torch.randn((), generator=generator(self.seed, "pace", site, turn), dtype=torch.float64)
        return math.exp(self.spread * float(own) + self.jitter * float(now))


class Deadline(Schedule):
    """A round goes on with the updates that have come by a deadline, or with the first ones of more than are needed.

    What the others have trained is lost, and they are in the record as late. If fewer than ``min_sites`` would arrive,
    the round waits for the next ones. By the real clock, sites whose work is not needed any more are told to end it.

    Args:
        deadline: By the simulated clock in units of a usual site's round, 2 if left out; by the real one in seconds,
            and none if left out.
        extra: Sites that are asked in addition, as a share of the cohort; the round ends as soon as there are as many
            updates as without them.
        clock: "simulated" draws how long sites take; "real" waits for them, in an executor whose sites work at the
            same time.
        spread: How much sites differ in simulated pace: standard deviation of its logarithm.
        jitter: How much a site differs from round to round, simulated.
    """

    def __init__(
        self,
        deadline: float | None = None,
        extra: float = 0.0,
        clock: Clock = "simulated",
        spread: float = 1.0,
        jitter: float = 0.2,
    ) -> None:
        self.deadline, self.extra, self.spread, self.jitter = deadline, extra, spread, jitter
        self.clock = clock

    def check(self, num_sites: int, min_sites: int) -> None:
        """Checks the arguments."""
        if self.deadline is not None and not self.deadline > 0:
            unit = "It is in seconds" if self.clock == "real" else "1 is what a usual site takes"
            raise ValueError(f"deadline must be above 0, got {self.deadline}. {unit}.")
        if not self.extra >= 0:
            raise ValueError(f"extra must not be negative, got {self.extra}. 0.5 asks half as many sites again.")
        if self.clock == "real" and self.deadline is None and not self.extra:
            raise ValueError("deadline, in seconds, or extra must be given for the real clock, got neither. Give one.")
        _check_pace(self.spread, self.jitter)

    def plans(self, cohorts: Cohorts) -> Iterator[Plan]:
        """Yields who is done in time, and who is late."""
        deadline = 2.0 if self.deadline is None else self.deadline
        pace, clock, number = Pace(cohorts.seed, self.spread, self.jitter), 0.0, 1
        while True:
            wanted, asked = self._asked(cohorts, number)
            times = {site: pace.time(site, number) for site in asked}
            order = sorted(asked, key=lambda site: times[site])[:wanted]
            on_time = sum(times[site] <= deadline for site in order)
            arrived = order[: max(on_time, min(cohorts.min_sites, len(order)))]
            ended = times[arrived[-1]] if len(arrived) == wanted else max(deadline, times[arrived[-1]])
            clock += ended
            starts = {site: number - 1 for site in asked if site in arrived}
            yield Plan(starts, tuple(site for site in asked if site not in starts), clock)
            number += 1

    def ask(self, cohorts: Cohorts, number: int, at_work: Collection[str]) -> Ask:
        """Asks the cohort and the extra sites; goes on with as many updates as the cohort has sites."""
        wanted, asked = self._asked(cohorts, number)
        return Ask(asked, wanted, self.deadline)

    @property
    def left_to_chance(self) -> bool:
        """So it is, unless there are extra sites."""
        return not self.extra

    def _asked(self, cohorts: Cohorts, number: int) -> tuple[int, tuple[str, ...]]:
        """Returns how many sites a round wants, and which it asks."""
        wanted = cohorts.draw(number)
        spare = [site for site in _order(cohorts, number) if site in cohorts.reached(number) and site not in wanted]
        more = spare[: math.ceil(self.extra * len(wanted))]
        return len(wanted), tuple(site for site in cohorts.sites if site in wanted or site in more)


class Buffered(Schedule):
    """Sites work at their own pace; the server goes on as soon as it has some updates (FedBuff, arXiv 2106.06639).

    An update is what a site changed since the version that it started from, times (1 + staleness)^-exponent. A site
    that has answered waits for the next version, as it would learn the same from its own once more; then idle ones
    begin, until ``concurrency`` are at work.

    Args:
        buffer: Updates that make a new version: a round.
        concurrency: Sites at work at a time; by default all.
        exponent: How little stale updates count; the paper takes 0.5, 0 counts all alike.
        clock: "simulated" draws how long sites take; "real" waits for them, in an executor whose sites work at the
            same time.
        spread: How much sites differ in simulated pace: standard deviation of its logarithm.
        jitter: How much a site differs from time to time, simulated.
    """

    def __init__(
        self,
        buffer: int = 2,
        concurrency: int | None = None,
        exponent: float = 0.5,
        clock: Clock = "simulated",
        spread: float = 1.0,
        jitter: float = 0.2,
    ) -> None:
        self.buffer, self.concurrency, self.exponent = buffer, concurrency, exponent
        self.clock, self.spread, self.jitter = clock, spread, jitter

    def check(self, num_sites: int, min_sites: int) -> None:
        """Checks the arguments against the federation."""
        at_work = num_sites if self.concurrency is None else self.concurrency
        if not 1 <= at_work <= num_sites:
            raise ValueError(
                f"concurrency must be from 1 to {num_sites}, the sites, got {at_work}. Leave it out for all."
            )
        if not max(1, min_sites) <= self.buffer <= at_work:
            raise ValueError(
                f"buffer must be from {max(1, min_sites)} (min_sites) to {at_work} (concurrency), got {self.buffer}."
            )
        if not self.exponent >= 0:
            raise ValueError(f"exponent must not be negative, got {self.exponent}. 0 counts all updates alike.")
        _check_pace(self.spread, self.jitter)

    def plans(self, cohorts: Cohorts) -> Iterator[Plan]:
        """Yields who is done first, and the version that each began with."""
        pace = Pace(cohorts.seed, self.spread, self.jitter)
        return self.arrivals(cohorts, pace.time)

    @property
    def left_to_chance(self) -> bool:
        """Fast sites take part more often."""
        return False

    def ask(self, cohorts: Cohorts, number: int, at_work: Collection[str]) -> Ask:
        """Lets idle sites begin; goes on with a full buffer, and the others stay at work."""
        idle = [site for site in _order(cohorts, number) if site not in at_work]
        begin = idle[: max(0, (self.concurrency or len(cohorts.sites)) - len(at_work))]
        return Ask(tuple(site for site in cohorts.sites if site in begin), self.buffer, ends=False)

    def arrivals(self, cohorts: Cohorts, time: Callable[[str, int], float]) -> Iterator[Plan]:
        """Yields the plans, given how long a site takes when it works for the n-th time."""
        work = _AtWork(time, cohorts.sites)
        limit = self.concurrency or len(cohorts.sites)
        number = 1
        while True:
            work.start(_order(cohorts, number), limit, version=number - 1)
            arrived = work.arrivals(self.buffer)
            starts = {site: arrived[site] for site in cohorts.sites if site in arrived}
            yield Plan(starts, (), work.clock, work.versions)
            number += 1


@dataclass
class _AtWork:
    """The sites that are at work, each until a time of its own."""

    time: Callable[[str, int], float]
    sites: Sequence[str]
    clock: float = 0.0
    _queue: list[tuple[float, int, int]] = field(default_factory=list)  # when it is done, place of the site, version
    _turns: dict[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> frozenset[int]:
        return frozenset(version for *_, version in self._queue)

    def start(self, order: Sequence[str], limit: int, version: int) -> None:
        """Lets idle sites begin with a version, in an order, until so many are at work."""
        busy = {self.sites[place] for _, place, _ in self._queue}
        for site in [site for site in order if site not in busy][: limit - len(self._queue)]:
            turn = self._turns[site] = self._turns.get(site, 0) + 1
            done = self.clock + self.time(site, turn)
            heapq.heappush(self._queue, (done, self.sites.index(site), version))

    def arrivals(self, number: int) -> dict[str, int]:
        """Takes the sites that are done first; returns the version that each started from."""
        found: dict[str, int] = {}
        while len(found) < number:
            self.clock, place, version = heapq.heappop(self._queue)
            found[self.sites[place]] = version
        return found


def _order(cohorts: Cohorts, number: int) -> list[str]:
    drawn = torch.randperm(len(cohorts.sites), generator=generator(cohorts.seed, number, "next at work"))
    return [cohorts.sites[index] for index in drawn.tolist()]


def _check_pace(spread: float, jitter: float) -> None:
    for name, value in (("spread", spread), ("jitter", jitter)):
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}. 0 lets all take the same time.")
