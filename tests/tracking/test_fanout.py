"""Trackers together: what the run depends on may stop it, the others may not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from fedlight.tracking import Fanout, RoundRecord, Tracker

if TYPE_CHECKING:
    from tests.tracking.conftest import MakeRecord


class Counting(Tracker):
    def __init__(self) -> None:
        self.rounds: list[int] = []

    def on_round(self, record: RoundRecord) -> None:
        self.rounds.append(record.round)


class Failing(Counting):
    overlays = True

    def on_round(self, record: RoundRecord) -> None:
        super().on_round(record)
        raise OSError("the disk is gone")


def test_what_an_optional_tracker_raises_is_one_warning_and_its_end(
    record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    failing, counting = Failing(), Counting()
    trackers = Fanout(optional=[failing, counting])
    with caplog.at_level(logging.WARNING, logger="fedlight"):
        for round in (1, 2):
            trackers.on_round(record(round))
    assert failing.rounds == [1]
    assert counting.rounds == [1, 2]
    assert caplog.messages == ["Failing stopped recording (OSError: the disk is gone); the run goes on without it."]


def test_what_an_essential_tracker_raises_is_raised(record: MakeRecord) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        Fanout(essential=[Failing()]).on_round(record(1))


def test_overlays_are_wanted_while_a_tracker_that_wants_them_is_left(record: MakeRecord) -> None:
    trackers = Fanout(essential=[Counting()], optional=[Failing()])
    assert trackers.overlays
    trackers.on_round(record(1))
    assert not trackers.overlays
