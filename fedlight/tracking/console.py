"""What a person sees of a run: a header, a line of progress, a line a site after each round, tables at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedlight.tracking.progress import Progress, duration
from fedlight.tracking.summary import READING, Score, cell, columns, heading, mean, score_rows, without_help, worst
from fedlight.tracking.tracker import RoundRecord, RunInfo, SiteRound, Status, Tracker
from fedlight.update import Evaluation

_METRICS_A_TABLE = 4  # fits 80 columns: the four metrics, then classes
_SITES_NAMED = 50
_STYLES = {"site": "", "mean": "bold", "worst": "yellow", "held-out": "cyan"}
_TITLES = {"val": "Validation cases", "test": "Test cases", "held-out": "held-out institution"}


class ConsoleTracker(Tracker):
    """Shows a run in a terminal, or writes it to a log without control codes and progress.

    In a log, sites get their lines only in rounds that were evaluated. What ``on_test`` brings is shown as one table
    when the run finishes, so that sites, mean, worst and the held-out institution stand together.

    Args:
        console: Where to write; None: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._given = console
        self._run: RunInfo | None = None
        self._live: Live | None = None
        self._scores: list[Score] = []

    def start(self, run: RunInfo) -> None:
        self._run, self._scores = run, []
        self._console = self._given or Console(highlight=False)
        self._interactive = self._console.is_terminal and not self._console.is_dumb_terminal
        self._progress = Progress(run)
        self._width = max(map(len, run.sites), default=0)
        self._shown: RoundRecord | None = None
        self._failures: dict[int, int] = {}  # by round, which may come twice
        for line in _header(run):
            self._print(line)

    def on_progress(self, site: str, round: int, step: int, steps: int, loss: float) -> None:
        self._progress.step(site, round, step, steps)
        if self._interactive:
            self._line(self._progress.line(site, round, step, steps, loss))

    def on_round(self, record: RoundRecord) -> None:
        self._progress.done(record)
        self._failures[record.round] = sum(failure.kind != "unneeded" for failure in record.failures)
        self._clear()
        for line in self._round_lines(record):
            self._print(line)
        if record.evaluations and (record.selected or self._shown is None or not self._shown.selected):
            self._shown = record

    def on_test(
        self, split: str, model: str, evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        self._scores += [Score(model, split, evaluation) for evaluation in evaluations]

    def finish(self, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path] = ()) -> None:
        self._clear()
        if self._run is None:
            return
        for table in self._tables(self._run):
            self._console.print(table)
        if failures := _failures(list(filter(None, self._failures.values()))):
            self._print(Text(failures, "red"))
        self._print(Text(f"{status}; run folder: {self._run.folder}"))
        self._run = None

    def _round_lines(self, record: RoundRecord) -> Iterator[Text]:
        yield _round_line(record)
        evaluations = {evaluation.site: evaluation for evaluation in record.evaluations}
        worked = {site.site: site for site in record.sites}
        if evaluations or self._interactive:
            for name in dict.fromkeys((*worked, *evaluations)):
                yield _site_line(name.ljust(self._width), worked.get(name), evaluations.get(name))
        for failure in record.failures:
            name = failure.site.ljust(self._width)
            if failure.kind == "unneeded":  # nothing went wrong
                yield Text(f"  {name}  {failure.reason}", "dim")
            else:
                yield Text(f"  {name}  failed in {failure.phase}: {failure.reason}", "red")

    def _tables(self, run: RunInfo) -> Iterator[RenderableType]:
        if self._scores:
            shared = [score for score in self._scores if without_help(score.model)[0] == "global"]
            own = [score for score in self._scores if without_help(score.model)[0] != "global"]
            yield from _tables("the global model", shared, run)
            yield from _tables("the sites' own models", own, run)
        elif self._shown is not None:
            what = f"round {self._shown.round}, {'the best so far' if self._shown.selected else 'the last evaluated'}"
            yield from _tables(what, [Score("global", "val", e) for e in self._shown.evaluations], run)

    def _clear(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = None

    def _line(self, text: Text) -> None:
        if self._live is None:
            # redrawn only when there is news: no thread beside the training, no flicker
            self._live = Live(text, console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(text, refresh=True)

    def _print(self, line: Text) -> None:
        # soft wrap: a log file gets one line a fact, however long
        self._console.print(line, soft_wrap=True)


def _header(run: RunInfo) -> Iterator[Text]:
    yield Text(run.name, "bold")
    for name, value in _facts(run):
        yield Text(f"  {name:<9} ").append(value)


def _facts(run: RunInfo) -> Iterator[tuple[str, str]]:
    yield "sites", _sites(run)
    if run.held_out:
        yield "held out", f"{', '.join(run.held_out)} (no part in training)"
    if run.method:
        yield "method", run.method
    if run.privacy and not run.scoring:
        yield "privacy", run.privacy
    if run.num_parameters:
        yield "network", f"{run.num_parameters / 1e6:.2f} M trainable parameters"
    if run.scoring:
        yield "model", f"of round {run.start_round}"
    else:
        yield "training", f"{run.rounds} rounds{_work(run.local_steps)}"
    if run.clock and not run.scoring:
        yield "clock", run.clock
    if run.last and not run.scoring:
        yield "last", run.last
    if run.start_round and not run.scoring:
        yield "resumed", f"after round {run.start_round}"
    if run.beyond and not run.scoring:
        yield "shares", f"more than statistics of whole sites: {'; '.join(run.beyond)}"
    yield "folder", str(run.folder)


def _sites(run: RunInfo) -> str:
    if len(run.sites) > _SITES_NAMED:
        return f"{len(run.sites)}, with {sum(run.num_samples.values())} training cases"
    return ", ".join(_counted(site, run.num_samples.get(site)) for site in run.sites)


def _counted(site: str, cases: int | None) -> str:
    return site if cases is None else f"{site} ({cases})"


def _work(local_steps: Mapping[str, int]) -> str:
    steps = set(local_steps.values())
    if not steps:
        return ""
    low, high = min(steps), max(steps)
    return f" x {low if low == high else f'{low} to {high}'} steps a site"


def _round_line(record: RoundRecord) -> Text:
    parts = [f"round {record.round}/{record.rounds}", _usable(record)]
    losses = [site.metrics["train_loss"] for site in record.sites if "train_loss" in site.metrics]
    if losses:
        parts.append(f"loss {sum(losses) / len(losses):.4f}")
    parts += _dice(record.evaluations)
    if "epsilon" in record.metrics:
        parts.append(f"epsilon {record.metrics['epsilon']:.2f}")
    parts += _spent(record.sites)
    if "round" in record.seconds:
        parts.append(duration(record.seconds["round"]))
    return Text("  ".join(parts), "bold").append("  best so far" if record.selected else "", "green")


def _usable(record: RoundRecord) -> str:
    """How many sites of those that were asked gave what can be used, also where that was not enough."""
    failed = {failure.site for failure in record.failures if failure.phase != "evaluate"}
    asked = failed.union(record.cohort)
    if record.sites:
        return f"{len(record.sites)} of {len(asked)} sites"
    return f"{len(asked - failed)} of {len(asked)} sites  does not count"


def _failures(numbers: Sequence[int]) -> str:
    """Sums up the failures of the rounds that had some; empty where none had.

    >>> _failures([1]), _failures([2, 1])[:28], _failures([])
    ('1 site failure in 1 round; metrics.jsonl has the reasons', '3 site failures in 2 rounds;', '')
    """
    failures, rounds = f"{sum(numbers)} site failure{'s' * (sum(numbers) > 1)}", f"round{'s' * (len(numbers) > 1)}"
    return f"{failures} in {len(numbers)} {rounds}; metrics.jsonl has the reasons" if numbers else ""


def _dice(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    last = worst(evaluations, "dice")
    if last is not None:
        yield f"Dice {cell('dice', mean(evaluations, 'dice'))}"
        yield f"worst {cell('dice', last.metrics['dice'])} ({last.site})"


def _spent(sites: Sequence[SiteRound]) -> Iterator[str]:
    spent = {site.site: site.metrics["epsilon"] for site in sites if "epsilon" in site.metrics}
    if spent:
        most = max(spent, key=spent.__getitem__)
        yield f"epsilon {spent[most]:.2f} ({most})"


def _site_line(name: str, worked: SiteRound | None, evaluation: Evaluation | None) -> Text:
    metrics = {} if worked is None else worked.metrics
    scores = {} if evaluation is None else evaluation.metrics
    parts = [name]
    parts.append(f"loss {metrics['train_loss']:.4f}" if "train_loss" in metrics else " " * 11)
    parts += [f"{heading(metric, '')} {scores[metric]:.4f}" for metric in ("dice", "iou") if metric in scores]
    if worked is not None:
        parts.append(f"{worked.num_samples:>4} cases")
    if "epsilon" in metrics:
        parts.append(f"epsilon {metrics['epsilon']:.2f}")
    if "seconds" in metrics:
        parts.append(f"{metrics['seconds']:.1f} s")
    return Text("  " + "  ".join(parts).rstrip())


def _tables(what: str, scores: Sequence[Score], run: RunInfo) -> Iterator[RenderableType]:
    """Splits wide results into several tables, so that every one fits 80 columns."""
    metrics = columns(score.evaluation for score in scores)
    if not scores:
        return
    yield Text(f"\n{_title(scores)}: {what}", "bold")
    for start in range(0, max(len(metrics), 1), _METRICS_A_TABLE):
        yield _table(scores, metrics[start : start + _METRICS_A_TABLE], run.distance_unit)
        yield ""
    yield Text(READING, "dim")


def _title(scores: Sequence[Score]) -> str:
    splits = {score.split for score in scores}
    return " and ".join(title for split, title in _TITLES.items() if split in splits).capitalize()


def _table(scores: Sequence[Score], metrics: Sequence[str], unit: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("site", overflow="fold")
    table.add_column("cases", justify="right")
    for metric in metrics:
        table.add_column(heading(metric, unit), justify="right")
    for row in score_rows(scores, metrics):
        numbers = [cell(metric, value) for metric, value in zip(metrics, row.values, strict=True)]
        table.add_row(Text(row.label), "" if row.cases is None else str(row.cases), *numbers, style=_STYLES[row.kind])
    return table
