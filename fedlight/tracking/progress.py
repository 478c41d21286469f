"""How far a run is, in one line, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.text import Text

from fedlight.tracking.tracker import RoundRecord, RunInfo

_BAR = 20


class Progress:
    """Follows a run from round to round.

    The time left is the time so far times the share that is left; rounds from before a resume count for neither.

    Args:
        run: The run.
        clock: Seconds that only grow; tests bring their own.
    """

    def __init__(self, run: RunInfo, clock: Callable[[], float] = time.monotonic) -> None:
        self._rounds = run.rounds
        self._first = run.start_round
        self._cohort = len(run.sites)  # of a sampled cohort, known once its first round is over
        self._clock = clock
        self._started = clock()
        self._finished = run.start_round
        self._shares: dict[str, float] = {}

    def step(self, site: str, round: int, step: int, steps: int) -> None:
        """Notes that a site has done ``step`` of its ``steps`` steps in a round."""
        self._finished = round - 1
        self._shares[site] = step / max(steps, 1)

    def done(self, record: RoundRecord) -> None:
        """Notes that a round is complete."""
        self._finished, self._cohort = record.round, len(record.cohort)
        self._shares.clear()

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds until the last round is over; None while there is nothing to go by."""
        within = min(sum(self._shares.values()) / max(self._cohort, 1), 1.0)
        worked = self._finished - self._first + within
        left = self._rounds - self._finished - within
        return (self._clock() - self._started) * left / worked if worked > 0 else None

    def line(self, site: str, round: int, step: int, steps: int, loss: float) -> Text:
        """Says in one line where the run is."""
        full = _BAR * step // max(steps, 1)
        text = Text(f"round {round}/{self._rounds}  ", no_wrap=True, overflow="ellipsis", end="")
        text.append("━" * full, "green").append("━" * (_BAR - full), "bright_black")
        text.append(f"  {site} {step}/{steps}  loss {loss:.4f}")
        left = self.seconds_left
        return text.append(f"  {duration(left)} left" if left is not None else "")


def duration(seconds: float) -> str:
    """Writes a time span for people.

    >>> [duration(seconds) for seconds in (0.24, 59.5, 61, 3700)]
    ['0.2 s', '59.5 s', '1:01', '1:01:40']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
