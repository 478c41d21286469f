"""What a schedule by the real clock gains where one site is slow: seconds a version, in step and not.

Sites sleep before every step, all as long but the last one, which sleeps several times as long; there is a worker for
each, and what they compute is next to nothing. The first version, which waits for the workers, does not count, and no
version is scored.

    python tests/performance/straggler.py --versions 12
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlight_algorithms.fedavg import FedAvg

from fedlight.batch import Batch
from fedlight.data import SyntheticSites
from fedlight.executors import MultiProcess
from fedlight.federation import Federation
from fedlight.plugins import ClientPlugin
from fedlight.schedule import Buffered, Deadline, Schedule, Synchronous
from fedlight.tasks import SegmentationTask
from fedlight.tracking.jsonl import read_rows
from fedlight.update import Broadcast


class Sleeping(ClientPlugin):
    """Sleeps before every step.

    Args:
        seconds: How long, by site.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    def on_round_start(self, site: str, module: Any, broadcast: Broadcast) -> None:
        self._site = site

    def transform_batch(self, batch: Batch) -> Batch:
        time.sleep(self.seconds[self._site])
        return batch


def measured(
    schedule: Schedule, data: SyntheticSites, plugin: Sleeping, steps: int, versions: int
) -> tuple[float, float]:
    """Returns the seconds of a version, and in which share of them the last site took part."""
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(
            FedAvg(),
            [plugin],
            rounds=versions + 2,  # the last one would be scored
            local_steps=steps,
            evaluate_every=versions + 2,
            schedule=schedule,
            threads=1,
            executor=MultiProcess(len(data.sites)),
            run_folder=str(Path(folder) / "run"),
            trainer={"accelerator": "cpu", "devices": 1},
            console=False,
        )
        run = federation._open(SegmentationTask(encoder="plain-8"), data, None)
        with run.claim(), federation._at_work(run):
            federation._round(run, 1)
            begun = time.perf_counter()
            for number in range(2, versions + 2):
                federation._round(run, number)
            seconds = time.perf_counter() - begun
        fits = [row for row in read_rows(run.folder.path) if row["kind"] == "fit" and row["round"] > 1]
    return seconds / versions, sum(row["site"] == data.sites[-1] for row in fits) / versions


def main(arguments: list[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="Versions of a model with one slow site, in step and by the clock.")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--sleep", type=float, default=0.2, help="seconds before a step")
    parser.add_argument("--slower", type=float, default=5.0, help="how many times as long the last site sleeps")
    parser.add_argument("--versions", type=int, default=12)
    parser.add_argument("--only", choices=["step", "Deadline", "Buffered"], nargs="+")
    chosen = parser.parse_args(arguments)
    data = SyntheticSites(num_sites=chosen.sites, image_size=16, cases=8, batch_size=2)
    data.prepare()
    sleep = dict.fromkeys(data.sites, chosen.sleep) | {data.sites[-1]: chosen.sleep * chosen.slower}
    schedules: dict[str, Schedule] = {
        "step": Synchronous(),
        "Deadline": Deadline(2 * chosen.steps * chosen.sleep, clock="real"),
        "Buffered": Buffered(buffer=min(2, len(data.sites)), clock="real"),
    }
    for name in chosen.only or schedules:
        seconds, share = measured(schedules[name], data, Sleeping(sleep), chosen.steps, chosen.versions)
        sys.stdout.write(f"{name}: {seconds:.2f} s a version; the slow site is in {share:.0%} of them\n")


if __name__ == "__main__":
    main()
