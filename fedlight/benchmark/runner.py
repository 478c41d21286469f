"""Runs jobs side by side, each in a process of its own; whatever ends it, what is finished stays finished."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedlight.benchmark.collect import Spent, cases_of, of_run, read_record, record, write_result
from fedlight.benchmark.plan import Job, Protocol
from fedlight.preparation import ConfigError

_OK = "ok"


@dataclass
class Runner:
    """Runs the jobs of a benchmark.

    ``output/runs/JOB`` is a job's run folder, with ``commands.txt`` and ``log.txt`` beside what a run leaves;
    ``output/results/JOB`` is its result. A job counts as done when its result says so; one that failed is tried again.

    Args:
        protocol: What all jobs have in common.
        output: Folder of the benchmark.
        known: Further folders of results, which count as done too and are not copied.
        workers: Jobs at a time.
        distance_unit: Unit of surface distances, "mm" or "px".
    """

    protocol: Protocol
    output: Path
    known: Sequence[Path] = ()
    workers: int = 1
    distance_unit: str = "px"
    _processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopped: bool = False

    def done(self, job: Job) -> tuple[Path, dict[str, Any]] | None:
        """Returns folder and record of a job that is done, from wherever there is one.

        Raises:
            ConfigError: If it was done with other settings.
        """
        for root in (self.output / "results", *self.known):
            found = read_record(root / job.name)
            if found is None or found["status"] != _OK:
                continue
            if found["fingerprint"] != self.protocol.fingerprint(job):
                raise ConfigError(
                    f"{root / job.name} must be of the same settings as this benchmark, got a result of others. "
                    "Name another --output, or move that result away."
                )
            return root / job.name, found
        return None

    def result(self, job: Job) -> dict[str, Any] | None:
        """Returns the record of a job that is done; see ``done``."""
        found = self.done(job)
        return None if found is None else found[1]

    def failure(self, job: Job) -> str | None:
        """Returns why a job failed here when it was tried last; None if it was not, or succeeded."""
        found = read_record(self.output / "results" / job.name)
        return found["reason"] if found is not None and found["status"] != _OK else None

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """Returns the jobs that are not done."""
        return [job for job in jobs if self.result(job) is None]

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Runs jobs and yields each with its record as it ends; an exception in between ends all processes."""
        waiting, self._stopped = list(jobs), False
        running: dict[Future[dict[str, Any]], Job] = {}
        pool = ThreadPoolExecutor(self.workers)
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    job = waiting.pop(0)
                    running[pool.submit(self._work, job)] = job
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            self._stop()
            pool.shutdown()

    def _work(self, job: Job) -> dict[str, Any]:
        """Runs one job to its end and writes its result."""
        run_folder, result = self.output / "runs" / job.name, self.output / "results" / job.name
        commands = self.protocol.commands(job, run_folder)
        reason, spent = self.process(run_folder, commands, wandb_names(self.output, job))
        about: dict[str, Any] = {}
        cases: list[dict[str, str]] = []
        if not reason:
            try:
                about, cases = of_run(run_folder, self.distance_unit), cases_of(run_folder)
            except (OSError, ValueError, KeyError) as error:
                reason = f"{run_folder} cannot be read: {' '.join(str(error).split())}"
        fingerprint = self.protocol.fingerprint(job)
        known = record(job, fingerprint, commands, self.protocol.threads, spent, reason)
        if not self._stopped:
            write_result(result, {**known, **about}, cases)
        return known

    def process(
        self, run_folder: Path, commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
    ) -> tuple[str, Spent]:
        """Runs commands one after the other in one process; returns why they failed, if they did."""
        run_folder.parent.mkdir(parents=True, exist_ok=True)
        script, log = (run_folder.with_name(f"{run_folder.name}{ending}") for ending in (".commands", ".log"))
        script.write_text("".join(f"{shlex.join(command)}\n" for command in commands))
        own = {"OMP_NUM_THREADS": str(self.protocol.threads), "COLUMNS": "120"}
        begun = time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "fedlight", "script", str(script), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches this process, which ends the others
            )
            self._processes[process.pid] = process
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        del self._processes[process.pid]
        spent = Spent(time.monotonic() - begun, usage.ru_utime + usage.ru_stime)
        return ("" if process.returncode == 0 else _reason(log, process.returncode)), spent

    def _stop(self) -> None:
        """Ends all processes and what they started."""
        self._stopped = True
        for pid in list(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while self._processes and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in list(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def wandb_names(output: Path, job: Job) -> dict[str, str]:
    """Returns what W&B, where a config asks for it, calls a job's run: a group is an arm, whose curves it averages.

    The variables are W&B's own.
    """
    return {
        "WANDB_RUN_GROUP": f"{output.resolve().name}/{job.arm.name}",
        "WANDB_JOB_TYPE": f"held-out-{'-'.join(job.held_out)}",
        "WANDB_NAME": job.name,
    }


def _reason(log: Path, code: int) -> str:
    """Returns the sentence with which a job failed, as far as its log knows one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("fedlight: ") for line in lines if line.startswith("fedlight: ")]
    if said:
        return said[-1]
    ending = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{ending}: {lines[-1]}" if lines else ending
