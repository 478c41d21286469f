"""A run by the real clock once more, from its record: the same sites from the same versions, and so the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedlight.checkpoint import RunFolder
from fedlight.cohort import Cohorts
from fedlight.schedule import Plan, Schedule
from fedlight.tracking.jsonl import read_rows


class Replay(Schedule):
    """Repeats who took part in the rounds of a run by the real clock, and from which versions of the model.

    Any executor gives the weights of that run bit for bit, if all else in the config is the same. It does not repeat
    what failed or was too late, as that left no trace in the model, and of private noise nothing can be repeated.

    Args:
        run: Folder of the run that is repeated.
        exponent: Of that run's ``Buffered``, if its folder has no config that says it.
    """

    def __init__(self, run: str, exponent: float = 0.5) -> None:
        self.run, self.exponent = run, exponent

    @property
    def dated(self) -> bool:
        """As by the real clock."""
        return True

    @property
    def most(self) -> int:
        """Those of the record."""
        return len(self._recorded())

    def check(self, num_sites: int, min_sites: int) -> None:
        """Checks that there is a record, and takes from the run's config how little stale updates count."""
        if not self._recorded():
            raise ValueError(f"run must be the folder of a run with rounds in metrics.jsonl, got {self.run}. Name one.")
        schedule = (RunFolder(Path(self.run)).config().get("federation") or {}).get("schedule") or {}
        said = schedule.get("init_args") or {}
        if said.get("clock") == "simulated":
            raise ValueError(f"run must have gone by the real clock, got {self.run}. Its own config repeats it.")
        self.exponent = float(said.get("exponent", self.exponent))

    def plans(self, cohorts: Cohorts) -> Iterator[Plan]:
        """Yields what happened in the rounds of the record; they end with it."""
        recorded = self._recorded()
        for number, (cohort, starts) in enumerate(recorded, start=1):
            later = {version for _, other in recorded[number:] for version in other.values()}
            here = {site: starts[site] for site in cohorts.sites if site in starts}
            pending = frozenset(version for version in later if version < number)
            yield Plan(here, pending=pending, cohort=cohort, dated=True)

    def _recorded(self) -> list[tuple[tuple[str, ...], dict[str, int]]]:
        """Returns of every round the cohort, and the versions that the sites started from whose updates counted."""
        rows = read_rows(Path(self.run))
        starts: dict[int, dict[str, int]] = {}
        for row in (row for row in rows if row["kind"] == "fit"):
            version = row["round"] - 1 - int(row.get("staleness", 0))
            starts.setdefault(row["round"], {})[row["site"]] = version
        rounds = {row["round"]: tuple(row["cohort"]) for row in rows if row["kind"] == "round"}
        return [(rounds[number], starts[number]) for number in sorted(starts) if number in rounds]
