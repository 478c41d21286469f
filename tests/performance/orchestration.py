"""Round time of fedlight against a FedAvg loop in plain PyTorch: what the federation costs beyond training.

Both sides train the same network from the same weights on the same batches with the same loss and threads, and a
fresh Adam at every site in every round. Evaluation is left out of both. A fedlight round is all the rest of a round of
``fedlight fit``: broadcast, a Lightning Trainer for each site, what sites keep on disk, checks, aggregation, console,
``metrics.jsonl``, both checkpoints and the commit. The plain loop writes nothing and checks nothing.

Rounds alternate, and so does who goes first, so that whatever else the machine does falls on both sides. Processor
time is printed beside wall time: it leaves out waiting, for the disk too, and is steadier on a machine that others use.
Both sides must end with the same parameters bit for bit, or the comparison would not be one.

    python tests/performance/orchestration.py --encoder plain-16 --rounds 20
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from fedlight_algorithms.fedavg import FedAvg

from fedlight import state
from fedlight.data import SyntheticSites
from fedlight.federation import Federation
from fedlight.randomness import derive, seeded
from fedlight.state import State
from fedlight.tasks import SegmentationTask

SEED = 0


class Seconds(NamedTuple):
    """What a round took."""

    wall: float
    processor: float


def timed(call: Callable[[], None]) -> Seconds:
    """Calls and says how long it took."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


class PlainLoop:
    """FedAvg as one would write it by hand for one machine.

    Args:
        data: Data of the sites.
        encoder: Of the network.
        steps: Optimizer steps of a site in a round.
    """

    def __init__(self, data: SyntheticSites, encoder: str, steps: int) -> None:
        self.data, self.steps = data, steps
        self.model = SegmentationTask(encoder=encoder)
        self.model.bind(data.format)
        with seeded(SEED, "initial weights"):
            self.model.configure_model()
        self.params = state.parameters_of(self.model)

    def round(self, number: int) -> None:
        """Trains at every site from the same weights and averages by training cases."""
        total, samples = {name: torch.zeros_like(value).double() for name, value in self.params.items()}, 0
        for site in self.data.sites:
            self.train(site, number)
            samples += self.data.num_samples(site)
            for name, parameter in self.model.named_parameters():
                total[name] += parameter.detach().double() * self.data.num_samples(site)
        self.params = {name: (value / samples).float() for name, value in total.items()}

    def train(self, site: str, number: int) -> None:
        """Runs the steps of one site."""
        state.load(self.model, self.params)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-3)
        seed = derive(SEED, number, site, "data")
        for batch in self.data.train_loader(site, seed=seed, steps=self.steps):
            optimizer.zero_grad()
            loss = self.model.criterion(self.model(batch["image"]), batch["mask"], batch["valid"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@contextlib.contextmanager
def federated_rounds(
    data: SyntheticSites, encoder: str, steps: int, rounds: int
) -> Iterator[tuple[Callable[[int], None], Callable[[], State]]]:
    """Opens a run; yields what makes one round, and what returns the global parameters."""
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(
            FedAvg(),
            rounds=rounds + 1,  # the last round of a run is always evaluated
            evaluate_every=rounds + 1,
            local_steps=steps,
            run_folder=str(Path(folder) / "run"),
            seed=SEED,
            trainer={"accelerator": "cpu", "devices": 1},
        )
        run = federation._open(SegmentationTask(encoder=encoder), data, None)
        with run.claim(), federation._at_work(run):
            yield lambda number: federation._round(run, number), lambda: run.server.params


def compare(
    encoder: str, sites: int, steps: int, rounds: int, image_size: int, batch_size: int, warm_up: int = 2
) -> tuple[list[Seconds], list[Seconds]]:
    """Returns what every round of fedlight and of the plain loop took.

    Raises:
        AssertionError: If the two did not train the same model.
    """
    data = SyntheticSites(num_sites=sites, image_size=image_size, batch_size=batch_size)
    data.prepare()
    plain = PlainLoop(data, encoder, steps)
    ours: list[Seconds] = []
    theirs: list[Seconds] = []
    console = io.StringIO()
    with contextlib.redirect_stdout(console), federated_rounds(data, encoder, steps, warm_up + rounds) as (run, params):
        for number in range(1, warm_up + rounds + 1):
            sides = [(run, ours), (plain.round, theirs)]
            for make_round, seconds in sides if number % 2 else reversed(sides):
                seconds.append(timed(partial(make_round, number)))
        same = state.digest(params()) == state.digest(plain.params)
    assert same, "the two sides ended with different parameters"
    return ours[warm_up:], theirs[warm_up:]


def report(kind: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Returns medians, and the ratio of neighbouring rounds with its quartiles."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    first, middle, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"{kind}: ratio {middle:.3f} (quartiles {first:.3f} to {third:.3f}, {len(ratios)} rounds), "
        f"fedlight {statistics.median(ours):.3f} s, plain loop {statistics.median(theirs):.3f} s a round (medians)\n"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="Round time of fedlight against a FedAvg loop in plain PyTorch.")
    parser.add_argument("--encoder", default="plain-16", help="plain-16 (0.5 M parameters) or plain-64 (8 M)")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    chosen = vars(parser.parse_args(arguments))
    torch.set_num_threads(chosen.pop("threads"))
    ours, theirs = compare(**chosen)
    for kind in Seconds._fields:
        sys.stdout.write(report(kind, [getattr(each, kind) for each in ours], [getattr(each, kind) for each in theirs]))
    sys.stdout.write("both end with the same parameters bit for bit\n")


if __name__ == "__main__":
    main()
