"""What a benchmark consists of: arms, jobs, and the commands that a job is."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from fedlight.configs import read_config
from fedlight.messages import nearest
from fedlight.preparation import ConfigError, flat

REFERENCES = ("fedavg", "local", "pooled", "pooled+bigaug", "bigaug", "randconv", "standardise")
"""Arms that are in every table: each site alone, all data in one place (the ceiling) without and with augmentation,
plain averaging, averaging with strong intensity augmentation, and images that are standardised one by one."""

_PLACES = ("--data.root", "--data.init_args.root", "--data.num_workers", "--data.cache_gb")
"""Settings that say where data lie and how they are read, not what is computed."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A method as it is compared: configs that are composed over the base.

    Attributes:
        name: "fedavg", or several names joined by "+".
        configs: Files, in order.
    """

    name: str
    configs: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One training: an arm with one institution held out, or two in a nested job, and a seed."""

    arm: Arm
    held_out: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Place of the job below ``results`` and ``runs``: arm/site/seedK."""
        return f"{self.arm.name}/{'+'.join(self.held_out)}/seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Protocol:
    """What all jobs have in common.

    Attributes:
        base: Configs of data, model and budget.
        overrides: Further settings as on the command line: "--name", "value", ...
        threads: Threads of a job; they change rounding only.
        scored: Whether models are scored on test cases and at the held-out site; trials of a search are not.
    """

    base: tuple[Path, ...]
    overrides: tuple[str, ...] = ()
    threads: int = 1
    scored: bool = True

    def commands(self, job: Job, run_folder: Path) -> list[list[str]]:
        """Returns the commands of a job: it trains, or goes on, and scores its best and its last model."""
        files = [part for path in (*self.base, *job.arm.configs) for part in ("-c", str(path))]
        held_out = job.held_out[0] if len(job.held_out) == 1 else f"[{','.join(job.held_out)}]"
        settings = ["--data.held_out", held_out, "--seed_everything", str(job.seed)]
        machine = ["--federation.threads", str(self.threads)]
        where = ["--federation.run_folder", str(run_folder), "--ckpt_path", "last"]
        test = ["fedlight", "test", "--run", str(run_folder)]
        scoring = [test, [*test, "--which", "last"]] if self.scored else []
        return [["fedlight", "fit", *files, *self.overrides, *settings, *machine, *where], *scoring]

    def setting(self, job: Job, name: str, default: Any) -> Any:
        """Returns a setting of a job by its dotted name, as configs and overrides give it."""
        found = default
        for path in (*self.base, *job.arm.configs):
            found = flat(_settings(path)).get(name, found)
        given = dict(zip(self.overrides[::2], self.overrides[1::2], strict=True))
        return given.get(f"--{name}", found)

    def fingerprint(self, job: Job) -> str:
        """Returns a digest of all that a job is asked to do, but for where its data lie and its threads."""
        pairs = zip(self.overrides[::2], self.overrides[1::2], strict=True)
        asked = {
            "configs": [_settings(path) for path in (*self.base, *job.arm.configs)],
            "overrides": [pair for pair in pairs if pair[0] not in _PLACES],
            "held_out": job.held_out,
            "seed": job.seed,
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def arms(names: Sequence[str], folders: Sequence[Path]) -> list[Arm]:
    """Finds the configs of arms by name; an arm that is named twice is there once.

    Args:
        names: Names of files without their ending, several joined by "+" for a combination, or paths of YAML files.
        folders: Where the files may lie, most likely first.

    Raises:
        ConfigError: If there is no such file.
    """
    known = {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))}
    return [_arm(name, known, folders) for name in dict.fromkeys(names)]


def jobs(
    arms: Sequence[Arm], sites: Sequence[str], seeds: Sequence[int], nested: Literal["also", "only"] | None = None
) -> list[Job]:
    """Lists the jobs of a benchmark, seed by seed, so that a table grows evenly.

    Args:
        arms: Arms to compare.
        sites: Institutions, each held out in turn.
        seeds: Seeds, the same for all arms.
        nested: Whether every two institutions are held out together too, for the selection rule that looks at neither;
            "only" leaves all else out.
    """
    single = [] if nested == "only" else [(site,) for site in sites]
    pairs = list(itertools.combinations(sorted(sites), 2)) if nested else []
    return [Job(arm, held_out, seed) for seed in seeds for held_out in (*single, *pairs) for arm in arms]


def shard(jobs: Sequence[Job], part: str) -> list[Job]:
    """Returns every n-th job, from the i-th on, for "i/n".

    Raises:
        ConfigError: If the part is not i/n with 1 <= i <= n.
    """
    first, _, count = part.partition("/")
    if not (first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise ConfigError(
            f"--shard must be i/n with i from 1 to n, got {part}. For the first of four machines, use 1/4."
        )
    return list(jobs[int(first) - 1 :: int(count)])


def _arm(name: str, known: dict[str, Path], folders: Sequence[Path]) -> Arm:
    if name.endswith((".yaml", ".yml")):
        _settings(Path(name))
        return Arm(Path(name).stem, (Path(name),))
    parts = name.split("+")
    for part in parts:
        if part not in known:
            places = " and ".join(str(folder) for folder in folders)
            raise ConfigError(f"algorithms must be files in {places}, got {part or 'nothing'}. {nearest(part, known)}")
    return Arm(name, tuple(known[part] for part in parts))


@cache
def _settings(path: Path) -> dict[str, Any]:
    return read_config(path)
