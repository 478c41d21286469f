"""What a round costs beside training: a model of 100 MB, four sites that answer at once, everything else as in a run.

Sites are replaced by an executor that returns the model that it was sent, so a round here is broadcast, checks,
aggregation, record, both checkpoints and the commit. Printed are medians of wall and processor time of a round, and how
long the same bytes take to be copied in memory and to be written to the same disk and flushed, as a measure of the
machine in the same run.

    python tests/performance/server_overhead.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from fedlight_algorithms.fedavg import FedAvg

from fedlight.client import Progress
from fedlight.data import SyntheticSites
from fedlight.executors import ClientFactory, Executor
from fedlight.executors.executor import Phase, Reply
from fedlight.federation import Federation
from fedlight.state import num_bytes
from fedlight.tasks import SegmentationTask
from fedlight.update import Broadcast, Sent, Update


class Idle(Executor):
    """Sites that do no work: they send back what they were sent."""

    def open(
        self,
        sites: Sequence[str],
        make_client: ClientFactory,
        round: int,
        progress: Progress,
        counted: Mapping[str, int],
    ) -> dict[str, int]:
        """Says that every site has ten cases."""
        return dict.fromkeys(sites, 10)

    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        """Yields an update of every site, with tensors of its own, or no evaluation."""
        for site, sent in messages.items():
            if phase != "fit" or not isinstance(sent, Broadcast):
                yield site, ()
                continue
            params = {name: value.clone() for name, value in sent.params.items()}
            yield site, Update(site, sent.context.round, 10, params, dict(sent.buffers), {"train_loss": 1.0})

    def close(self) -> None:
        """Does nothing."""


def rounds_of(encoder: str, sites: int, rounds: int) -> tuple[list[tuple[float, float]], int]:
    """Returns wall and processor seconds of every round, and the bytes of the model."""
    data = SyntheticSites(num_sites=sites, cases=6, image_size=32)
    seconds: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        task = SegmentationTask(encoder=encoder, encoder_weights=None)
        federation = Federation(
            FedAvg(), rounds=rounds + 2, executor=Idle(), run_folder=str(Path(folder) / "run"), console=False
        )
        run = federation._open(task, data, None)
        with run.claim(), federation._at_work(run):
            for number in range(1, rounds + 2):
                wall, processor = time.perf_counter(), time.process_time()
                federation._round(run, number)
                seconds.append((time.perf_counter() - wall, time.process_time() - processor))
        return seconds[1:], num_bytes(run.server.params)


def yardsticks(size: int) -> tuple[float, float]:
    """Returns the seconds to copy so many bytes in memory, and to write them to disk and flush them."""
    data, target = torch.zeros(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    copied = best(lambda: target.copy_(data))
    with tempfile.NamedTemporaryFile() as file:

        def write() -> None:
            file.seek(0)
            file.write(data.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())

        return copied, best(write)


def best(call: Callable[[], object], repetitions: int = 5) -> float:
    """Returns the shortest of some calls, in seconds."""
    seconds = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="A round beside training.")
    parser.add_argument("--encoder", default="resnet34", help="resnet34: a U-Net of 98 MB")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = vars(parser.parse_args(arguments))
    torch.set_num_threads(1)
    seconds, size = rounds_of(**chosen)
    wall, processor = (statistics.median(each) for each in zip(*seconds, strict=True))
    copied, written = yardsticks(size)
    sys.stdout.write(
        f"a round of {chosen['sites']} sites, {size / 1e6:.0f} MB: {wall:.2f} s wall, {processor:.2f} s processor time "
        f"(medians of {len(seconds)})\ncopying {size / 1e6:.0f} MB takes {copied:.3f} s, writing them {written:.3f} s\n"
    )


if __name__ == "__main__":
    main()
