"""The scripts run and compare like with like; how long anything takes is not tested."""

from __future__ import annotations

import re

import pytest

from tests.performance import orchestration, startup

TINY = ["--encoder", "plain-8", "--sites", "2", "--steps", "2", "--rounds", "2", "--image_size", "16"]


def test_orchestration_trains_the_same_model_on_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    orchestration.main(TINY)
    printed = capsys.readouterr().out
    assert re.search(r"ratio \d+\.\d+ \(quartiles", printed)
    assert "same parameters bit for bit" in printed


def test_orchestration_notices_two_different_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestration.PlainLoop, "train", lambda loop, site, number: None)
    with pytest.raises(AssertionError, match="different parameters"):
        orchestration.main(TINY)


@pytest.mark.slow  # starts two processes that import torch
def test_startup_sees_the_first_batch(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["--repetitions", "1", "--data.image_size", "16", "--data.cases", "8"])
    printed = capsys.readouterr().out
    assert re.search(r"ratio \d+\.\d+\nbeyond the imports -?\d+\.\d+ s", printed)
