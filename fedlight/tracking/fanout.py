"""One tracker that passes everything on to many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlight.tracking.tracker import RoundRecord, RunInfo, Status, Tracker
from fedlight.update import Evaluation

_log = logging.getLogger("fedlight")


class Fanout(Tracker):
    """Passes a run on to several trackers, so that only those the run depends on can stop it.

    Args:
        essential: What they raise is raised: a run whose own record cannot be written should stop.
        optional: The first exception of one becomes one warning; it is not called again.
    """

    def __init__(self, essential: Sequence[Tracker] = (), optional: Sequence[Tracker] = ()) -> None:
        self._essential = tuple(essential)
        self._optional = list(optional)

    @property
    def overlays(self) -> bool:  # type: ignore[override]  # follows from the trackers
        """Whether any tracker that is left wants overlays."""
        return any(tracker.overlays for tracker in (*self._essential, *self._optional))

    def start(self, run: RunInfo) -> None:
        self._call(lambda tracker: tracker.start(run))

    def on_progress(self, site: str, round: int, step: int, steps: int, loss: float) -> None:
        self._call(lambda tracker: tracker.on_progress(site, round, step, steps, loss))

    def on_round(self, record: RoundRecord) -> None:
        self._call(lambda tracker: tracker.on_round(record))

    def on_test(
        self, split: str, model: str, evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        self._call(lambda tracker: tracker.on_test(split, model, evaluations, rows))

    def on_overlays(self, site: str, round: int, images: Any, masks: Any, predictions: Any) -> None:
        self._call(lambda tracker: tracker.on_overlays(site, round, images, masks, predictions))

    def finish(self, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path] = ()) -> None:
        self._call(lambda tracker: tracker.finish(status, summary, artifacts))

    def _call(self, call: Callable[[Tracker], None]) -> None:
        for tracker in self._essential:
            call(tracker)
        for tracker in tuple(self._optional):
            try:
                call(tracker)
            except (Exception, SystemExit) as error:  # rich ends the program when its pipe is closed
                self._drop(tracker, error)

    def _drop(self, tracker: Tracker, error: BaseException) -> None:
        self._optional.remove(tracker)
        name, cause = type(tracker).__name__, f"{type(error).__name__}: {error}"
        _log.warning("%s stopped recording (%s); the run goes on without it.", name, cause)
