"""What a person sees, in a terminal and in a log file."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from fedlight.tracking import ConsoleTracker, RoundRecord, RunInfo
from fedlight.tracking.progress import Progress
from fedlight.update import Evaluation, SiteFailure

if TYPE_CHECKING:
    from tests.tracking.conftest import MakeRecord


class Screen:
    """A console whose text can be read back."""

    def __init__(self, terminal: bool = False) -> None:
        self.console = Console(
            file=io.StringIO(), width=80, force_terminal=terminal, legacy_windows=False, _environ={"TERM": "xterm"}
        )
        self.tracker = ConsoleTracker(self.console)

    @property
    def text(self) -> str:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()

    def after(self, start: str) -> list[str]:
        """Lines from the one that starts like this."""
        lines = [line.rstrip() for line in self.text.splitlines()]
        return lines[next(i for i, line in enumerate(lines) if line.startswith(start)) :]


def test_the_header_says_what_federates(run: RunInfo) -> None:
    screen = Screen()
    screen.tracker.start(replace(run, start_round=2))
    assert screen.text.splitlines() == [
        "two-sites",
        "  sites     a (14), b (20)",
        "  held out  c (no part in training)",
        "  network   0.50 M trainable parameters",
        "  training  4 rounds x 10 to 12 steps a site",
        "  resumed   after round 2",
        f"  folder    {run.folder}",
    ]


def test_a_log_has_a_line_a_site_in_evaluated_rounds_and_no_control_codes(run: RunInfo, record: MakeRecord) -> None:
    """Losses 0.25 and 0.75: mean 0.5. Dice 0.5 and 0.75: mean 0.625, worst 0.5 at "a"."""
    screen = Screen()
    screen.tracker.start(run)
    for round in (1, 2):
        screen.tracker.on_progress("a", round, 5, 10, 0.3)
        screen.tracker.on_round(record(round, evaluated=round == 2, selected=round == 2))
    assert screen.after("round 1") == [
        "round 1/4  2 of 2 sites  loss 0.5000  3.5 s",
        "round 2/4  2 of 2 sites  loss 0.5000  Dice 0.6250  worst 0.5000 (a)  3.5 s  best so far",
        "  a  loss 0.2500  Dice 0.5000  IoU 0.3750    14 cases  1.0 s",
        "  b  loss 0.7500  Dice 0.7500  IoU 0.6250    20 cases  2.0 s",
    ]
    assert "\x1b" not in screen.text
    assert "\r" not in screen.text


def test_a_failed_site_is_named_with_its_reason(run: RunInfo, record: MakeRecord) -> None:
    screen = Screen()
    screen.tracker.start(run)
    screen.tracker.on_round(record(1, failures=(SiteFailure("b", 1, "fit", "raised", "loss is nan"),)))
    assert screen.text.splitlines()[-1] == "  b  failed in fit: loss is nan"


def test_a_round_that_does_not_count_says_how_many_sites_it_had_all_the_same(run: RunInfo) -> None:
    """Of two sites one has failed; the update of the other could be used."""
    screen = Screen()
    screen.tracker.start(run)
    failure = SiteFailure("b", 1, "fit", "raised", "loss is nan")
    screen.tracker.on_round(RoundRecord(1, 4, ("a", "b"), (), failures=(failure,)))
    assert screen.after("round 1")[0] == "round 1/4  1 of 2 sites  does not count"


def test_sites_that_were_asked_in_vain_are_counted_among_those_of_a_round(run: RunInfo, record: MakeRecord) -> None:
    """A deadline leaves late sites out of the cohort; one that has only failed to score is not asked to train."""
    screen = Screen()
    screen.tracker.start(run)
    late = SiteFailure("d", 1, "fit", "late", "not done in time (simulated)")
    silent = SiteFailure("e", 1, "evaluate", "raised", "no disk")
    screen.tracker.on_round(record(1, failures=(late, silent)))
    assert screen.after("round 1")[0].startswith("round 1/4  2 of 3 sites  loss")


def test_a_terminal_shows_progress_in_one_line_that_it_clears(run: RunInfo, record: MakeRecord) -> None:
    screen = Screen(terminal=True)
    screen.tracker.start(run)
    before = len(screen.text)
    for step in (1, 5, 10):
        screen.tracker.on_progress("a" * 90, 1, step, 10, 0.25)
    drawn = screen.text[before:]
    assert drawn.count("\n") == 0
    assert "round 1/4" in drawn
    screen.tracker.on_round(record(1))
    assert "\x1b[2K" in screen.text[before + len(drawn) :]
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")  # the cursor is back


def test_a_terminal_has_a_line_a_site_after_every_round(run: RunInfo, record: MakeRecord) -> None:
    screen = Screen(terminal=True)
    screen.tracker.start(run)
    screen.tracker.on_round(record(1, evaluated=False))
    assert screen.text.splitlines()[-2:] == [
        "  a  loss 0.2500    14 cases  1.0 s",
        "  b  loss 0.7500    20 cases  2.0 s",
    ]


def test_training_ends_with_the_selected_round_and_the_run_folder(run: RunInfo, record: MakeRecord) -> None:
    screen = Screen()
    screen.tracker.start(run)
    screen.tracker.on_round(record(1, selected=True))
    screen.tracker.on_round(record(2))
    screen.tracker.finish("finished", {})
    assert screen.after("Validation")[0] == "Validation cases: round 1, the best so far"
    assert screen.text.splitlines()[-1] == f"finished; run folder: {run.folder}"


def test_a_run_ends_with_the_number_of_failures_and_where_their_reasons_are(run: RunInfo, record: MakeRecord) -> None:
    """Three in two rounds of three; who was not needed has not failed, and a round that comes again counts once."""
    screen = Screen()
    screen.tracker.start(run)
    raised, unneeded = SiteFailure("b", 1, "fit", "raised", "x"), SiteFailure("a", 3, "fit", "unneeded", "y")
    for number, failures in ((1, (raised, raised)), (2, (raised,)), (2, (raised,)), (3, (unneeded,))):
        screen.tracker.on_round(record(number, failures=failures))
    screen.tracker.finish("finished", {})
    assert screen.after("3 site") == [
        "3 site failures in 2 rounds; metrics.jsonl has the reasons",
        f"finished; run folder: {run.folder}",
    ]


def test_a_test_ends_with_sites_mean_worst_and_held_out(run: RunInfo) -> None:
    """Dice 0.5 and 0.75: mean 0.625, worst 0.5. HD95 2 and 4: mean 3, worst 4."""
    screen = Screen()
    screen.tracker.start(run)
    screen.tracker.on_test("held-out", "global", [Evaluation("c", 4, 20, {"dice": 0.25})], ())
    sites = [Evaluation("a", 4, 4, {"dice": 0.5, "hd95": 2.0}), Evaluation("b", 4, 5, {"dice": 0.75, "hd95": 4.0})]
    screen.tracker.on_test("test", "global", sites, ())
    screen.tracker.finish("finished", {})
    lines = screen.after("Test cases and held-out institution: the global model")
    assert lines[1].split() == ["site", "cases", "Dice", "HD95", "mm"]
    assert [line.split() for line in lines[3:8]] == [
        ["a", "4", "0.5000", "2.00"],
        ["b", "5", "0.7500", "4.00"],
        ["mean", "0.6250", "3.00"],
        ["worst", "0.5000", "4.00"],
        ["c", "(held-out)", "20", "0.2500", "-"],
    ]
    assert "both empty: Dice 1, distance 0; one empty: Dice 0, distance = image diagonal" in " ".join(lines)


def test_the_sites_own_models_share_a_table(run: RunInfo) -> None:
    screen = Screen()
    screen.tracker.start(run)
    for model in run.sites:
        screen.tracker.on_test("test", model, [Evaluation(model, 4, 4, {"dice": 0.5})], ())
        screen.tracker.on_test("held-out", model, [Evaluation("c", 4, 20, {"dice": 0.25})], ())
    screen.tracker.on_test("held-out", "ensemble", [Evaluation("c", 4, 20, {"dice": 0.25})], ())
    screen.tracker.finish("finished", {})
    labels = [line.split("  ")[0].strip() for line in screen.after("Test cases and held-out institution")[3:10]]
    assert labels[:4] == ["a", "b", "mean", "worst"]
    assert labels[4:6] == ["c (held-out, model of a)", "c (held-out, model of b)"]
    assert labels[6] == "c (held-out, ensemble of the models)"


def test_many_classes_fit_80_columns(run: RunInfo) -> None:
    screen = Screen()
    screen.tracker.start(run)
    metrics = {"dice": 0.5, "iou": 0.4, "hd95": 120.5, "assd": 30.25}
    metrics |= {f"dice/left_organ_{number}": 0.5 for number in range(6)}
    site = "university-hospital-of-a-town-with-a-long-name"
    screen.tracker.on_test("test", "global", [Evaluation(site, 4, 4, metrics)], ())
    screen.tracker.finish("finished", {})
    assert max(map(len, screen.after("Test cases")[:-1])) <= 80
    assert "left_organ_5" in screen.text


def test_names_are_shown_as_they_are(run: RunInfo, record: MakeRecord) -> None:
    screen = Screen()
    screen.tracker.start(replace(run, name="[bold]run[/]", sites=("[red]a", "b")))
    screen.tracker.on_test("test", "global", [Evaluation("[red]a", 4, 4, {"dice": 0.5})], ())
    screen.tracker.finish("finished", {})
    assert screen.text.startswith("[bold]run[/]\n")
    assert screen.text.count("[red]a") == 2


def test_finishing_twice_or_without_a_start_says_nothing(run: RunInfo) -> None:
    screen = Screen()
    screen.tracker.finish("failed", {})
    assert screen.text == ""
    screen.tracker.start(run)
    screen.tracker.finish("failed", {})
    said = screen.text
    screen.tracker.finish("failed", {})
    assert screen.text == said


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_the_time_so_far_times_the_share_left(run: RunInfo, record: MakeRecord) -> None:
    """One round and one of two sites of the next: 1.5 of 4 rounds in 30 s, so 2.5 rounds take 50 s."""
    clock = Clock()
    progress = Progress(run, clock)
    assert progress.seconds_left is None
    progress.step("a", 1, 10, 10)
    progress.done(record(1))
    progress.step("a", 2, 12, 12)
    clock.now = 30.0
    assert progress.seconds_left == 50.0


def test_the_time_left_of_a_resumed_run_counts_its_own_rounds_only(run: RunInfo, record: MakeRecord) -> None:
    """Round 3 of 4 took 10 s after a resume at 2: round 4 takes 10 s too."""
    clock = Clock()
    progress = Progress(replace(run, start_round=2), clock)
    clock.now = 10.0
    progress.done(record(3))
    assert progress.seconds_left == 10.0


def test_every_round_says_what_the_site_that_spent_most_has_spent(run: RunInfo, record: MakeRecord) -> None:
    screen = Screen()
    screen.tracker.start(run)
    screen.tracker.on_round(record(1, {"epsilon": 1.234}, evaluated=False))
    sites = tuple(
        replace(site, metrics={"epsilon": spent}) for site, spent in zip(record(2).sites, (1.5, 2.5), strict=True)
    )
    screen.tracker.on_round(replace(record(2, evaluated=False), sites=sites))
    assert screen.after("round 1") == [
        "round 1/4  2 of 2 sites  loss 0.5000  epsilon 1.23 (a)  3.5 s",
        "round 2/4  2 of 2 sites  epsilon 2.50 (b)  3.5 s",
    ]
