"""What a thousand sites cost beyond ten, with ten of them in every round: round time and peak memory.

Two processes each open a run, one with many sites and one with few, and make rounds in turn, so that whatever else the
machine does falls on both. Ten sites train and ten evaluate in every round of either; all else of a round is done too.
Peak memory is that of the whole process, with torch, with the images of all sites and with what it took to start.

    python tests/performance/many_sites.py --many 1000 --few 10 --rounds 50
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fedlight_algorithms.fedavg import FedAvg

from fedlight.data import SyntheticSites
from fedlight.federation import Federation
from fedlight.tasks import SegmentationTask


class Size(NamedTuple):
    """How large a federation is and what its sites do in a round."""

    sites: int
    cohort: int
    rounds: int
    steps: int
    encoder: str
    image_size: int


def serve(connection: Connection, size: Size) -> None:
    """Opens a run, makes a round whenever it is told a number and says what it took; at 0 says its peak memory."""
    torch.set_num_threads(1)
    data = SyntheticSites(num_sites=size.sites, cases=8, image_size=size.image_size, batch_size=4)
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(
            FedAvg(),
            rounds=size.rounds + 1,
            local_steps=size.steps,
            cohort=size.cohort / size.sites,
            evaluate_sites=size.cohort,
            threads=1,
            run_folder=str(Path(folder) / "run"),
            trainer={"accelerator": "cpu", "devices": 1},
            console=False,
        )
        run = federation._open(SegmentationTask(encoder=size.encoder), data, None)
        with run.claim(), federation._at_work(run):
            connection.send(None)
            while number := connection.recv():
                wall, processor = time.perf_counter(), time.process_time()
                federation._round(run, number)
                connection.send((time.perf_counter() - wall, time.process_time() - processor))
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))


@contextmanager
def opened(size: Size) -> Iterator[Connection]:
    """Starts a process with a run and waits until it is open."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, size), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    yield ours
    process.join()


def ask(connection: Connection, number: int) -> Any:
    """Sends a number and returns the answer."""
    connection.send(number)
    return connection.recv()


def main(arguments: list[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="Round time and peak memory of many sites against few.")
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--cohort", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--encoder", default="plain-16")
    parser.add_argument("--image_size", type=int, default=32)
    chosen = parser.parse_args(arguments)
    rest = (chosen.cohort, chosen.rounds, chosen.steps, chosen.encoder, chosen.image_size)
    rounds: list[tuple[Any, Any]] = []
    with opened(Size(chosen.many, *rest)) as many, opened(Size(chosen.few, *rest)) as few:
        for number in range(1, chosen.rounds + 1):
            sides = (many, few) if number % 2 else (few, many)
            took = {id(side): ask(side, number) for side in sides}
            rounds.append((took[id(many)], took[id(few)]))
        memory = ask(many, 0), ask(few, 0)
    kept = rounds[1:] or rounds  # the first round warms up
    for index, kind in enumerate(("wall time", "processor time")):
        seconds = [(one[index], other[index]) for one, other in kept]
        ratio = statistics.median(one / other for one, other in seconds)
        each = " and ".join(f"{statistics.median(side):.3f} s" for side in zip(*seconds, strict=True))
        sys.stdout.write(f"{kind} of a round: ratio {ratio:.3f} (median of {len(kept)} rounds; {each})\n")
    sizes = " and ".join(f"{size / 1e6:.0f} MB" for size in memory)
    sys.stdout.write(f"peak memory: ratio {memory[0] / memory[1]:.3f} ({sizes})\n")


if __name__ == "__main__":
    main()
