"""``fedlight watch``: the lines of a run's own console, seen from outside, however the run goes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from fedlight.__main__ import main
from fedlight.run_lock import hold
from fedlight.tracking import ConsoleTracker, Tracker
from fedlight.watching.follow import follow, round_record
from tests.watching.folders import begin, record, whole


def screen() -> tuple[ConsoleTracker, Callable[[], str]]:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    return ConsoleTracker(console), lambda: console.file.getvalue()  # type: ignore[attr-defined]


class Script:
    """What happens in another process, one step every time that the watcher waits."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def __call__(self, seconds: float) -> None:
        assert self.steps, "the watcher waits although the run has ended"
        self.steps.pop(0)()


def test_a_run_that_was_not_there_yet_is_shown_as_its_own_console_shows_it(tmp_path: Path) -> None:
    folder, (own, shown), (tracker, seen) = tmp_path / "run", screen(), screen()
    lock = hold(folder)
    run: list[Tracker] = []

    def end() -> None:
        run[0].finish("finished", {})
        lock.__exit__(None, None, None)

    script = Script(
        lambda: None,
        lambda: lock.__enter__(),
        lambda: run.append(begin(folder, console=own)),
        *[lambda round=round: run[0].on_round(record(round, selected=round == 2)) for round in (1, 2, 3, 4)],
        end,
    )
    said: list[str] = []
    assert follow(folder, tracker, said.append, sleep=script) == 0
    assert seen() == shown()
    assert "round 4/4" in seen()
    assert said == [f"waiting for {folder}, in which no run has begun"]


def test_a_run_of_nearly_that_name_is_offered(tmp_path: Path) -> None:
    whole(tmp_path / "retina")
    said: list[str] = []
    script = Script(lambda: whole(tmp_path / "retnia"))
    assert follow(tmp_path / "retnia", screen()[0], said.append, sleep=script) == 0
    waiting = f"waiting for {tmp_path / 'retnia'}, in which no run has begun"
    assert said == [f"{waiting}. Did you mean retina?"]
    said.clear()
    script = Script(lambda: whole(tmp_path / "heart"))
    assert follow(tmp_path / "heart", screen()[0], said.append, sleep=script) == 0
    assert said == [f"waiting for {tmp_path / 'heart'}, in which no run has begun"]


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1), ("interrupted", 130)])
def test_the_exit_code_is_that_of_the_run(status: str, code: int, tmp_path: Path) -> None:
    tracker, seen = screen()
    begin(tmp_path / "run").finish(status, {})  # type: ignore[arg-type]
    assert follow(tmp_path / "run", tracker, lambda sentence: None) == code
    assert seen().splitlines()[-1].startswith(f"{status}; run folder: ")


def test_a_killed_run_is_noticed(tmp_path: Path) -> None:
    tracker, seen = screen()
    begin(tmp_path / "run").on_round(record(1))
    said: list[str] = []
    assert follow(tmp_path / "run", tracker, said.append) == 137
    assert "round 1/4" in seen()
    assert "its process ended without a word" in said[0]


def test_a_run_that_goes_on_shows_what_is_trained_again(tmp_path: Path) -> None:
    """Loss 0.25 and 0.75 at first: mean 0.5; in the second go 1.25 and 0.75: mean 1."""
    folder, (tracker, seen), run = tmp_path / "run", screen(), list[Tracker]()
    before = begin(folder)
    for round in (1, 2, 3):
        before.on_round(record(round))
    lock = hold(folder)
    lock.__enter__()

    def end() -> None:
        run[0].finish("interrupted", {})
        lock.__exit__(None, None, None)

    script = Script(lambda: run.append(begin(folder, start=2)), lambda: run[0].on_round(record(3, loss=1.25)), end)
    assert follow(folder, tracker, lambda sentence: None, sleep=script) == 130
    rounds = [line.split("  ")[0::2][:2] for line in seen().splitlines() if line.startswith("round")]
    assert rounds == [
        ["round 1/4", "loss 0.5000"],
        ["round 2/4", "loss 0.5000"],
        ["round 3/4", "loss 0.5000"],
        ["round 3/4", "loss 1.0000"],
    ]


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    folder, (tracker, seen) = tmp_path / "run", screen()
    begin(folder).on_round(record(1))
    path = folder / "metrics.jsonl"
    text = path.read_text()
    path.write_text(text[:-5])
    lock = hold(folder)
    lock.__enter__()

    def end() -> None:
        with path.open("a") as file:
            file.write(text[-5:])
        lock.__exit__(None, None, None)

    follow(folder, tracker, lambda sentence: None, sleep=Script(lambda: None, end))
    assert "round 1/4" in seen()


def test_a_round_can_be_made_of_its_rows(tmp_path: Path) -> None:
    from fedlight.tracking.rows import round_rows

    for number in (1, 3):
        known = record(number, selected=True)
        assert round_record(round_rows(known), 4) == known


def test_a_damaged_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("no json\n{}\n")
    assert main(["watch", str(tmp_path / "run")]) == 1
    assert "metrics.jsonl is damaged" in capsys.readouterr().err


def test_ctrl_c_ends_the_watching_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedlight.watching.command.follow", lambda *arguments: interrupt(0))
    whole(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert main(["watch", str(tmp_path / "run")]) == 130
    assert f"no longer watching; {tmp_path / 'run'} goes on by itself" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
