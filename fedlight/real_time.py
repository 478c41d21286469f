"""Rounds by the real clock: sites begin, and the server goes on with those that have answered first.

Which those are nobody can repeat, so such a run does not either; its record has what ``Replay`` repeats it from. A site
is told the round that follows its version, as nobody knows in which it will arrive. What is on its way when a run is
interrupted is asked for again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedlight.cohort import Cohorts
from fedlight.executors import Executor
from fedlight.executors.executor import Reply
from fedlight.schedule import Ask, Schedule
from fedlight.update import Broadcast, SiteFailure, Update

Messages = Callable[[tuple[str, ...]], Mapping[str, Broadcast]]
"""Makes what sites are sent that begin now."""


@dataclass(frozen=True, slots=True)
class Started:
    """A site at work.

    Attributes:
        version: Of the model that it started from.
        message: What it was sent.
    """

    version: int
    message: Broadcast


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a round by the clock has to go on with.

    Attributes:
        cohort: Its sites: those that were asked together, or where sites come and go, those that have answered.
        replies: What came in time, in the sites' own order, with when each of them had started and from what.
        late: Sites that worked in vain.
    """

    cohort: tuple[str, ...]
    replies: Mapping[str, tuple[Started, Reply]]
    late: Sequence[SiteFailure]


@dataclass
class RealTime:
    """The sites at work, from round to round.

    Attributes:
        executor: Where they work.
        schedule: Says who begins, and when a round is over.
        cohorts: Of the run.
        at_work: Who is at work.
    """

    executor: Executor
    schedule: Schedule
    cohorts: Cohorts
    at_work: dict[str, Started] = field(default_factory=dict)

    def round(self, number: int, messages: Messages, least: Callable[[int], int]) -> Gathered:
        """Lets sites begin, and waits until there is enough to go on with.

        Args:
            number: Of the round.
            messages: Makes what the sites are sent that begin.
            least: Says without how many updates a round cannot go on in which so many sites were asked.
        """
        ask = self.schedule.ask(self.cohorts, number, self.at_work)
        sent = messages(ask.sites)
        self.at_work |= {site: Started(number - 1, message) for site, message in sent.items()}
        self.executor.start(sent)
        found = self._wait(ask, least(len(ask.sites)))
        late = self._end(ask, number, found) if ask.ends else []
        answered = {site: found[site] for site in self.cohorts.sites if site in found}
        return Gathered(ask.sites if ask.ends else tuple(answered), answered, late)

    def end(self) -> None:
        """Ends all work."""
        self.executor.stop(list(self.at_work))
        self.at_work.clear()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _wait(self, ask: Ask, least: int) -> dict[str, tuple[Started, Reply]]:
        """Takes answers as they come until there are enough, or as many as needed when the time is over."""
        begun, found = time.monotonic(), dict[str, tuple[Started, Reply]]()
        limit, enough = math.inf if ask.seconds is None else ask.seconds, max(ask.enough, least)
        while self.at_work:
            seconds, updates = time.monotonic() - begun, _updates(found)
            if updates >= enough or (seconds >= limit and updates >= least):
                break
            came = self.executor.answer(limit - seconds if seconds < limit < math.inf else None)
            if came is not None:
                site, reply = came
                found[site] = self.at_work.pop(site), _timed(reply, time.monotonic() - begun)
        return found

    def _end(self, ask: Ask, number: int, found: Mapping[str, tuple[Started, Reply]]) -> list[SiteFailure]:
        """Ends the work of those that are left, and says why."""
        updates, late = _updates(found), list(self.at_work)
        self.end()
        if updates >= ask.enough:
            return [_failed(site, number, "unneeded", f"not needed: {updates} others were first") for site in late]
        return [_failed(site, number, "late", f"no answer within {ask.seconds:g} s") for site in late]


def _updates(found: Mapping[str, tuple[Started, Reply]]) -> int:
    return sum(isinstance(reply, Update) for _, reply in found.values())


def _timed(reply: Reply, seconds: float) -> Reply:
    """Notes in an update when it came, in seconds since the round has begun."""
    if not isinstance(reply, Update):
        return reply
    return replace(reply, metrics={**reply.metrics, "seconds_arrived": seconds})


def _failed(site: str, number: int, kind: str, reason: str) -> SiteFailure:
    return SiteFailure(site, number, "fit", kind, reason)
