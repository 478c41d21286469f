"""What was done, as the jobs' own records say it: sites, settings, time, versions, commands, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedlight.benchmark.report.notation import counted
from fedlight.benchmark.scores import HUMAN, Scores

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """How much of the plan was done.

    Args:
        planned: Jobs of every arm, held-out site and seed that appear.
        done: Jobs that ended well.
        failed: Jobs that ended with a reason.
        nested: Jobs that left two sites out, beside these.
    """

    planned: int
    done: int
    failed: int
    nested: int

    @property
    def missing(self) -> int:
        """Jobs that have not ended."""
        return self.planned - self.done - self.failed


def done(scores: Scores) -> Done:
    """Counts jobs; a second annotator is none."""
    jobs = scores.jobs[scores.jobs["arm"] != HUMAN]
    plain = jobs[~jobs["nested"].astype(bool)]
    planned = len(scores.arms) * len(scores.sites) * len(scores.seeds)
    ended = plain["status"].value_counts()
    return Done(planned, int(ended.get("ok", 0)), int(ended.get("failed", 0)), len(jobs) - len(plain))


def sites(scores: Scores, reference: str) -> pd.DataFrame:
    """Returns a row a site: ``site``, ``scored`` (cases when held out), ``training`` (cases when it trains).

    Sites that are never held out come last. Who trains is read from the reference's jobs, as pooled data are one site.
    """
    held_out = scores.cases[scores.cases["domain"] == "held-out"].groupby("site")["case"].nunique()
    training: dict[str, int] = {}
    for record in _records(scores):
        training |= (record.get("num_samples") or {}) if record["arm"] == reference else {}
    every = [*scores.sites, *sorted(set(training) - set(scores.sites))]
    rows = [{"site": site, "scored": held_out.get(site), "training": training.get(site)} for site in every]
    return pd.DataFrame(rows, columns=["site", "scored", "training"])


def _records(scores: Scores) -> Sequence[Record]:
    return scores.records


def costs(scores: Scores, reference: str) -> pd.DataFrame:
    """Returns medians over the jobs of every arm, without nested ones.

    Returns:
        ``arm``, ``seconds``, ``processor_seconds``, ``times`` (processor time against the reference), ``megabytes``,
        ``selected_round``, ``rounds``, ``num_parameters``.
    """
    columns = ["seconds", "processor_seconds", "megabytes", "selected_round", "rounds", "num_parameters"]
    medians = _ended(scores).groupby("arm")[columns].median()
    own = medians["processor_seconds"]
    medians["times"] = own / own.get(reference, float("nan"))
    return medians.reset_index()


def _ended(scores: Scores) -> pd.DataFrame:
    jobs = scores.jobs
    return jobs[(jobs["status"] == "ok") & ~jobs["nested"].astype(bool) & (jobs["arm"] != HUMAN)]


def totals(scores: Scores) -> tuple[float, float]:
    """Returns the wall time and the processor time of all jobs together, in seconds."""
    return float(scores.jobs["seconds"].sum()), float(scores.jobs["processor_seconds"].sum())


def failures(scores: Scores) -> pd.DataFrame:
    """Returns the jobs that failed: ``arm``, ``held_out``, ``seed``, ``reason``."""
    failed = scores.jobs[scores.jobs["status"] == "failed"]
    return failed[["arm", "held_out", "seed", "reason"]].sort_values(["arm", "held_out", "seed"])


def environments(scores: Scores) -> list[tuple[str, str]]:
    """Returns every combination of code, versions and machine, with the number of its jobs, most frequent first."""
    counts = Counter(_environment(record) for record in _records(scores) if record.get("arm") != HUMAN)
    return [(environment, counted(number, "job")) for environment, number in counts.most_common()]


def _environment(record: Record) -> str:
    machine = record.get("machine") or {}
    parts = [
        f"fedlight {record.get('fedlight') or '?'}",
        f"commit {record.get('commit') or 'unknown'}",
        f"Python {record.get('python') or '?'}",
        *(f"{name} {version}" for name, version in (record.get("versions") or {}).items()),
        f"{machine.get('threads', '?')} of {machine.get('cores', '?')} cores",
    ]
    return ", ".join(parts)


def commands(scores: Scores) -> dict[str, str]:
    """Returns what to type to run an arm's jobs again: arm -> all its commands, a line each, every line once."""
    lines: dict[str, dict[str, None]] = {}
    for record in _records(scores):
        lines.setdefault(str(record["arm"]), {}).update(dict.fromkeys(record.get("commands") or ()))
    return {arm: "\n".join(lines[arm]) for arm in sorted(lines) if lines[arm]}


def differing_settings(scores: Scores, reference: str) -> list[tuple[str, list[str]]]:
    """Returns, for every arm, the settings in which it is unlike the reference, as ``name: value``.

    What varies with the job (held-out site, seed) is left out by comparing jobs of one site and seed. Of an arm whose
    jobs differ from the reference in other ways, each way is listed.
    """
    settings = {(r["arm"], *_job(r)): dict(r.get("settings") or {}) for r in _records(scores)}
    found: dict[str, dict[str, None]] = {arm: {} for arm in scores.arms if arm != reference}
    for (arm, held_out, seed), own in settings.items():
        other = settings.get((reference, held_out, seed))
        if arm in found and other is not None:
            found[arm].update(dict.fromkeys(_unlike(own, other)))
    return [(arm, list(lines)) for arm, lines in found.items()]


def _job(record: Record) -> tuple[str, int]:
    return "+".join(record["held_out"]), int(record["seed"])


def _unlike(own: Record, other: Record) -> Iterator[str]:
    for name in sorted({*own, *other}):
        if own.get(name) != other.get(name):
            yield f"{name.replace('.init_args', '')}: {own.get(name, 'not set')}"
