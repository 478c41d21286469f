"""What worker processes gain: rounds of ``InProcess`` with two threads against two workers of one thread.

Two runs of the quickstart's network, sites and images are open at the same time and make rounds in turn; while one
works the other waits. Evaluation is part of a round. Threads differ, so the bits may.

    python tests/performance/workers.py --workers 2 --rounds 10
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from fedlight_algorithms.fedavg import FedAvg

from fedlight.data import SyntheticSites
from fedlight.executors import Executor, InProcess, MultiProcess
from fedlight.federation import Federation
from fedlight.tasks import SegmentationTask


@contextlib.contextmanager
def opened(
    executor: Executor, data: SyntheticSites, encoder: str, steps: int, rounds: int, threads: int
) -> Iterator[Callable[[int], float]]:
    """Opens a run; yields what makes a round and returns its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(
            FedAvg(),
            rounds=rounds + 1,
            local_steps=steps,
            threads=threads,
            executor=executor,
            run_folder=str(Path(folder) / "run"),
            trainer={"accelerator": "cpu", "devices": 1},
            console=False,
        )
        run = federation._open(SegmentationTask(encoder=encoder), data, None)

        def make_round(number: int) -> float:
            if isinstance(executor, InProcess):
                torch.set_num_threads(threads)
            begun = time.perf_counter()
            federation._round(run, number)
            return time.perf_counter() - begun

        with run.claim(), federation._at_work(run):
            yield make_round


def main(arguments: list[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="Rounds of one process with several threads against several workers.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker; the one process has as many as all")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--encoder", default="plain-16")
    parser.add_argument("--image_size", type=int, default=64)
    chosen = parser.parse_args(arguments)
    data = SyntheticSites(num_sites=chosen.sites, image_size=chosen.image_size)
    data.prepare()
    settings = (data, chosen.encoder, chosen.steps, chosen.rounds)
    seconds: list[tuple[float, float]] = []
    with (
        opened(InProcess(), *settings, chosen.workers * chosen.threads) as one,
        opened(MultiProcess(chosen.workers), *settings, chosen.threads) as several,
    ):
        for number in range(1, chosen.rounds + 1):
            sides = (one, several) if number % 2 else (several, one)
            took = {id(side): side(number) for side in sides}
            seconds.append((took[id(one)], took[id(several)]))
    kept = seconds[1:] or seconds  # the first round waits for the workers
    ratio = statistics.median(alone / together for alone, together in kept)
    each = " and ".join(f"{statistics.median(side):.3f} s" for side in zip(*kept, strict=True))
    sys.stdout.write(f"in process / workers: ratio {ratio:.3f} (median of {len(kept)} rounds; {each} a round)\n")


if __name__ == "__main__":
    main()
