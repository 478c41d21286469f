"""What a person sees of a benchmark: the plan, a line a job, and in a terminal a bar with the time left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedlight.benchmark.plan import Job
from fedlight.benchmark.runner import Runner
from fedlight.tracking.progress import duration


class Board:
    """Shows a benchmark in a terminal, or writes a line a job to a log.

    Args:
        planned: All jobs.
        missing: Those that are not done.
        runner: Runs them.
    """

    def __init__(self, planned: Sequence[Job], missing: Sequence[Job], runner: Runner) -> None:
        self.planned, self.missing, self.runner = planned, missing, runner
        self.console = Console(highlight=False)
        self.failed: list[tuple[Job, str]] = []
        self.seconds: list[float] = []

    def plan(self) -> None:
        """Prints arms, held-out sites and seeds, and how much of it is done."""
        open_jobs = Counter(job.arm.name for job in self.missing)
        table = Table("arm", "configs", "jobs", "missing", box=None, pad_edge=False)
        count = Counter(job.arm.name for job in self.planned)
        configs = {job.arm.name: " ".join(path.name for path in job.arm.configs) for job in self.planned}
        for name, files in configs.items():
            table.add_row(name, files, str(count[name]), str(open_jobs[name]))
        self.console.print(table)
        held_out = ", ".join(dict.fromkeys("+".join(job.held_out) for job in self.planned))
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(job.seed for job in self.planned))
        self.console.print(f"held out: {held_out}; seeds: {seeds}", soft_wrap=True)
        done = len(self.planned) - len(self.missing)
        self.console.print(f"{done} of {len(self.planned)} jobs done, {self.runner.workers} at a time", soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Prints a sentence."""
        self.console.print(sentence, soft_wrap=True)

    def estimate(self, estimated: tuple[float, str]) -> None:
        """Prints how long the missing jobs may take."""
        seconds, basis = estimated
        self.console.print(f"estimated time: {duration(seconds)} (from {basis})", soft_wrap=True)

    def watch(self, ended: Iterator[tuple[Job, dict[str, Any]]]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Passes jobs on as they end, with a bar in a terminal."""
        columns = (
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(
                "jobs", total=len(self.planned), completed=len(self.planned) - len(self.missing), left=""
            )
            for job, found in ended:
                yield job, found
                bar.update(task, advance=1, left=self._left())

    def ended(self, job: Job, found: Mapping[str, Any]) -> None:
        """Prints a line about a job that ended."""
        self.seconds.append(found["seconds"])
        took = duration(found["seconds"])
        if found["status"] == "ok":
            self.console.print(f"{job.name}  {took}  {self._left()}", soft_wrap=True)
        else:
            self.failed.append((job, found["reason"]))
            self.console.print(f"{job.name}  failed after {took}: {found['reason']}", style="red", soft_wrap=True)

    def close(self) -> None:
        """Prints how it ended and what to do next."""
        done = len(self.planned) - len(self.runner.missing(self.planned))
        self.console.print(f"{done} of {len(self.planned)} jobs done", soft_wrap=True)
        if self.failed:
            logs = self.runner.output / "runs"
            self.console.print(f"{len(self.failed)} failed; their logs lie in {logs}", style="red", soft_wrap=True)

    def _left(self) -> str:
        waiting = len(self.missing) - len(self.seconds)
        if not waiting:
            return "all jobs ended"
        seconds = sum(self.seconds) / len(self.seconds) * waiting / self.runner.workers
        return f"{waiting} to go, about {duration(seconds)}"
