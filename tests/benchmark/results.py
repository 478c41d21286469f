"""Trees of results whose means, effects and failures are known by construction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedlight.benchmark.layout import KEYS
from fedlight.benchmark.result_folder import JOB, METRICS
from fedlight.benchmark.scores import Scores

Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What a benchmark would have found.

    A case's Dice is 0.6 + effect of the arm + effect of its site + effect of the case + noise of the job + noise,
    clipped to [0, 1]; effects of sites are 0, -0.02, -0.04...; those of cases are spread evenly over
    [-0.05, 0.05]. With ``noise`` 0 the mean Dice of an arm is 0.6 + its effect + the mean of the site effects.

    Attributes:
        effects: Effect of every arm on Dice. ``local`` has a model for every training site, effects 0, 0.01, 0.02...
        sites: Names, in the order of their effects.
        seeds: Seeds of every arm.
        cases: Cases of a site.
        classes: Foreground classes.
        noise: Standard deviations of the noise of a job and, half as much, of a case.
        failed: Jobs (arm, held-out site, seed) that failed.
        missing: Jobs that were never run.
        missed: Share of cases in which every arm misses the structure.
        nested: Arms that have nested jobs.
        human: Whether there is a second annotator.
        unit: Of distances.
    """

    effects: Mapping[str, float] = field(
        default_factory=lambda: {"fedavg": 0.0, "mixstyle": 0.02, "style_align": 0.03, "pooled": 0.01, "local": -0.1}
    )
    sites: Sequence[str] = ("chase", "drive", "hrf", "stare")
    seeds: Sequence[int] = (0, 1, 2)
    cases: int = 8
    classes: Sequence[str] = ("vessel",)
    noise: float = 0.01
    failed: Sequence[tuple[str, str, int]] = ()
    missing: Sequence[tuple[str, str, int]] = ()
    missed: float = 0.0
    nested: Sequence[str] = ()
    human: bool = False
    unit: str = "px"

    def write(self, folder: Path) -> Path:
        """Writes all results below ``folder/results`` and returns ``folder``."""
        for arm in self.effects:
            for site in self.sites:
                for seed in self.seeds:
                    if (arm, site, seed) not in self.missing:
                        self._write_job(folder, arm, (site,), seed)
        for arm in self.nested:
            for pair in combinations(sorted(self.sites), 2):
                for seed in self.seeds:
                    self._write_job(folder, arm, pair, seed)
        for site in self.sites if self.human else ():
            self._write_job(folder, "human", (site,), 0)
        return folder

    def _write_job(self, folder: Path, arm: str, held_out: tuple[str, ...], seed: int) -> None:
        failed = len(held_out) == 1 and (arm, held_out[0], seed) in self.failed
        place = folder / "results" / arm / "+".join(held_out) / f"seed{seed}"
        place.mkdir(parents=True)
        (place / "job.json").write_text(json.dumps(self._record(arm, held_out, seed, failed), indent=1))
        if not failed:
            frame = pd.DataFrame(list(self._rows(arm, held_out, seed)))
            frame.to_csv(place / "cases.csv", index=False, float_format="%.5f")

    def _record(self, arm: str, held_out: tuple[str, ...], seed: int, failed: bool) -> dict[str, Any]:
        sources = [site for site in self.sites if site not in held_out]
        best = 0.7 + self.effects.get(arm, 0.0)  # the source validation Dice of the selected round
        curve = [
            {
                "round": round,
                "val_dice": [best - 0.1, None, best, best - 0.01][round - 1],
                "worst_dice": [best - 0.2, None, best - 0.1, best - 0.11][round - 1],
                "train_loss": 1.0 / round,
                "megabytes": 2.5 * round,
            }
            for round in range(1, 5)
        ]
        return {
            "format": 1,
            "arm": arm,
            "held_out": list(held_out),
            "seed": seed,
            "status": "failed" if failed else "ok",
            "reason": "The loss is not finite in round 2." if failed else "",
            "fingerprint": f"{arm}-{'+'.join(held_out)}-{seed}",
            "commands": [f"fedlight fit -c configs/retina.yaml --data.held_out {held_out[0]} --seed_everything {seed}"],
            "fedlight": "0.1.0",
            "commit": "0123456",
            "versions": {"torch": "2.15.0"},
            "python": "3.11.7",
            "machine": {"cores": 2, "threads": 1},
            "seconds": 60.0 + seed,
            "processor_seconds": 100.0 + seed,
            "selected_round": 3,
            "rounds": 4,
            "sites": sources,
            "classes": ["background", *self.classes],
            "distance_unit": self.unit,
            "num_samples": dict.fromkeys(sources, self.cases),
            "num_parameters": 482_000,
            "settings": {"federation.rounds": 4, "federation.aggregator.class_path": "FedAvg"},
            "curve": [] if arm == "human" or failed else curve,
        }

    def _rows(self, arm: str, held_out: tuple[str, ...], seed: int) -> Iterator[Row]:
        sources = [site for site in self.sites if site not in held_out]
        random = np.random.default_rng([seed, *map(ord, arm + "+".join(held_out))])
        job = self.noise * random.standard_normal()
        models = (
            {site: 0.01 * index for index, site in enumerate(sources)}
            if arm == "local"
            else {"human" if arm == "human" else "global": 0.0}
        )
        for checkpoint, penalty in (("best", 0.0), ("last", -0.005)):
            for model, extra in models.items():
                for site in held_out:
                    shift = self.effects.get(arm, 0.2) + extra + job + (0.0 if arm == "human" else penalty)
                    yield from self._site(random, "held-out", checkpoint, model, site, shift)
            for site in sources if arm != "human" else ():
                shift = self.effects.get(arm, 0.0) + 0.1 + job + penalty
                own = site if arm == "local" else "global"
                yield from self._site(random, "in-federation", checkpoint, own, site, shift)

    def _site(
        self, random: np.random.Generator, domain: str, checkpoint: str, model: str, site: str, shift: float
    ) -> Iterator[Row]:
        place = -0.02 * list(self.sites).index(site)
        for index, case_effect in enumerate(np.linspace(-0.05, 0.05, self.cases)):
            row: Row = {
                "domain": domain,
                "checkpoint": checkpoint,
                "model": model,
                "site": site,
                "case": f"{index:03d}",
            }
            missed = index < round(self.missed * self.cases)
            by_class = {}
            for name in self.classes:
                dice = 0.6 + shift + place + case_effect + self.noise / 2 * random.standard_normal()
                by_class[name] = _measures(0.0 if missed else float(np.clip(dice, 0, 1)), missed)
            row |= {
                metric: float(np.mean([by_class[name][metric] for name in by_class])) for metric in _measures(0, True)
            }
            row |= {"ece": None if model == "human" else 0.05, "brier": 0.08}
            if len(self.classes) > 1:
                row |= {f"{metric}/{name}": value for name in by_class for metric, value in by_class[name].items()}
            yield row


def _measures(dice: float, missed: bool) -> dict[str, float]:
    """The other measures of a case follow from its Dice; a missed structure is as far away as the image is wide."""
    distance = 90.0 if missed else 20 * (1 - dice)
    return {"dice": dice, "iou": dice / (2 - dice), "miss": float(missed), "hd95": distance, "assd": distance / 4}


def scores_of(dice: Mapping[tuple[str, str, int], Any], **changes: Any) -> Scores:
    """Makes scores of a few numbers, without files.

    Args:
        dice: By arm, held-out site ("a+b" for a nested job) and seed: the Dice of every case of the held-out site; by
            model where there are several; by site for a nested job; None for a failed job.
        **changes: Other columns of a case: a function of its Dice.
    """
    rows = [row for job, given in dice.items() if given is not None for row in _case_rows(job, given)]
    cases = pd.DataFrame(rows, columns=[*JOB, *KEYS, "dice"]).astype({"seed": int, "dice": float})
    cases = cases.assign(**{name: cases["dice"].map(change) for name, change in changes.items()})
    columns = list(dict.fromkeys([*JOB, *KEYS, *METRICS, *cases.columns]))
    cases = cases.reindex(columns=columns).fillna({"miss": 0.0}).astype(dict.fromkeys(METRICS, float))
    nested = cases["held_out"].str.contains("+", regex=False)
    jobs = pd.DataFrame([_job_row(job, given) for job, given in dice.items()])
    curves = pd.DataFrame(columns=[*JOB, "round", "val_dice", "worst_dice", "train_loss", "megabytes"])
    return Scores(cases[~nested], cases[nested], curves, jobs, (), ("vessel",), "px")


def _case_rows(job: tuple[str, str, int], given: Any) -> Iterator[tuple[Any, ...]]:
    nested = "+" in job[1]
    named = given if isinstance(given, Mapping) else {"human" if job[0] == "human" else "global": given}
    for name, values in named.items():
        model, site = ("global", name) if nested else (name, job[1])
        for case, value in enumerate(values):
            yield (*job, "held-out", "best", model, site, str(case), value)


def _job_row(job: tuple[str, str, int], given: Any) -> Row:
    status = "failed" if given is None else "ok"
    return dict(zip(JOB, job, strict=True)) | {"nested": "+" in job[1], "status": status} | dict.fromkeys(_VALIDATION)


_VALIDATION = ("val_dice", "last_val_dice")
