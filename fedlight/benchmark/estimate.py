"""How long a benchmark may take: from jobs that are done, else from one round that is tried out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from fedlight.benchmark.plan import Job
from fedlight.benchmark.runner import Runner
from fedlight.preparation import ConfigError
from fedlight.tracking.jsonl import read_rows


def estimate(runner: Runner, planned: Sequence[Job], missing: Sequence[Job]) -> tuple[float, str]:
    """Returns the seconds that the missing jobs may take on this machine, and what that is based on.

    A job counts like the mean of the finished ones of its arm, or of all arms. With none, one round of the first
    missing job is trained and scored in a temporary folder.
    """
    if not missing:
        return 0.0, "nothing is missing"
    seconds: dict[str, list[float]] = {}
    for job in planned:
        found = runner.result(job)
        if found is not None:
            seconds.setdefault(job.arm.name, []).append(found["seconds"])
    known = [value for values in seconds.values() for value in values]
    if known:
        each = [fmean(seconds.get(job.arm.name, known)) for job in missing]
        return sum(each) / runner.workers, f"{len(known)} finished jobs"
    return len(missing) * _probe(runner, missing[0]) / runner.workers, f"one round of {missing[0].arm.name}"


def _probe(runner: Runner, job: Job) -> float:
    """Trains one round and scores it; returns what a whole job would take."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "probe"
        short = replace(runner.protocol, overrides=(*runner.protocol.overrides, "--federation.rounds", "1"))
        reason, spent = Runner(short, Path(name)).process(folder, short.commands(job, folder))
        if reason:
            raise ConfigError(f"{job.name} fails: {reason}")
        row = next(row for row in read_rows(folder) if row["kind"] == "round")
    rounds = int(runner.protocol.setting(job, "federation.rounds", 10))
    evaluations = -(-rounds // int(runner.protocol.setting(job, "federation.evaluate_every", 1)))
    once = row["seconds_fit"] + row["seconds_evaluate"]
    return float(spent.wall - once + rounds * row["seconds_fit"] + evaluations * row["seconds_evaluate"])
