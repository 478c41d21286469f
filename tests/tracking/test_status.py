"""``run.json``: what a run says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedlight.origin import commit
from fedlight.tracking import RunInfo, StatusTracker, read_status, status


def test_a_run_knows_every_commit_that_trained_it(run: RunInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two starts with the first commit, one with the second, one with the first again, and one that only scores."""
    for made_by in ("aaaa", "aaaa", "bbbb+", "aaaa"):
        monkeypatch.setattr(status, "commit", lambda made_by=made_by: made_by)
        StatusTracker().start(run)
    monkeypatch.setattr(status, "commit", lambda: "cccc")
    StatusTracker().start(replace(run, scoring="selected"))
    assert read_status(run.folder)["commits"] == ["aaaa", "bbbb+", "aaaa"]


def test_the_commit_is_that_of_the_checkout_or_said_to_be_unknown(run: RunInfo) -> None:
    StatusTracker().start(run)
    assert read_status(run.folder)["commits"] == [commit() or "unknown"]
