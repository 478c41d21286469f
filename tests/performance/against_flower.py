"""The same federation in Flower's own simulation and in fedlight: seconds to the end of round 1, and of further rounds.

Both sides train the same network from the same weights on the same batches with the same loss, a fresh Adam for each
site and round, averaged by cases, without evaluation, on the same cores. Flower's client is written as its quickstart
is: a plain PyTorch loop that loads the arrays, trains and returns them. Every side runs in processes of its own that
begin with a bare interpreter, and sides alternate; the clock of a side starts with its process and is read at the end
of every round. Both must have the same parameters after round 1 but for rounding (Flower averages in float32), or the
script fails; later ones drift apart, as Adam makes steps of one size of gradients that are nearly zero.

    pip install "flwr[simulation]==1.42.*"
    python tests/performance/against_flower.py                                       four sites, 10 steps
    python tests/performance/against_flower.py --sites 20 --steps 2 --image_size 32  twenty sites, 2 steps
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEED = 0
QUIET = {
    "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "offline",
}


# --- what both sides share -------------------------------------------------------------------------------------------


def data_of(work: dict[str, Any]) -> Any:
    """Makes the sites."""
    from fedlight.data import SyntheticSites

    data = SyntheticSites(num_sites=work["sites"], image_size=work["image_size"], batch_size=work["batch_size"])
    data.prepare()
    return data


def task_of(data: Any, work: dict[str, Any]) -> Any:
    """Makes the network with its initial weights."""
    from fedlight.randomness import seeded
    from fedlight.tasks import SegmentationTask

    task = SegmentationTask(encoder=work["encoder"])
    task.bind(data.format)
    with seeded(SEED, "initial weights"):
        task.configure_model()
    return task


def ended(folder: Path, number: int) -> None:
    """Notes when a round ended."""
    with (folder / "rounds.txt").open("a") as file:
        file.write(f"{number} {time.time()}\n")


# --- the two sides ---------------------------------------------------------------------------------------------------


def fedlight_side(folder: Path, work: dict[str, Any]) -> None:
    """Trains with fedlight."""
    import torch
    from fedlight_algorithms.fedavg import FedAvg
    from safetensors.torch import save_file

    import fedlight.executors
    from fedlight.federation import Federation
    from fedlight.tasks import SegmentationTask

    torch.set_num_threads(1)
    rounds = work["rounds"]
    federation = Federation(
        FedAvg(),
        rounds=rounds + 1,  # the last round of a run is always evaluated
        evaluate_every=rounds + 1,
        local_steps=work["steps"],
        threads=1,
        executor=getattr(fedlight.executors, work["executor"])(),
        run_folder=str(folder / "run"),
        seed=SEED,
        trainer={"accelerator": "cpu", "devices": 1},
    )
    run = federation._open(SegmentationTask(encoder=work["encoder"]), data_of(work), None)
    with run.claim(), federation._at_work(run):
        for number in range(1, rounds + 1):
            federation._round(run, number)
            ended(folder, number)
            if number == 1:
                save_file(run.server.params, folder / "params.safetensors")
        os._exit(0)  # what comes after the last round is nobody's time


def flower_side(folder: Path, work: dict[str, Any]) -> None:
    """Trains with Flower's simulation."""
    import flwr.simulation
    from flwr.app import ArrayRecord, Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from safetensors.torch import save_file

    from fedlight.state import parameters_of

    client, server = ClientApp(), ServerApp()
    client.train()(_flower_client(work))

    class Timed(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            found = super().aggregate_train(server_round, replies)
            assert found[0] is not None, "a round of Flower failed"
            ended(folder, server_round)
            if server_round == 1:
                save_file(found[0].to_torch_state_dict(), folder / "params.safetensors")
            return found

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        initial = ArrayRecord(parameters_of(task_of(data_of(work), work)))
        strategy = Timed(fraction_evaluate=0.0, min_train_nodes=work["sites"], min_available_nodes=work["sites"])
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=work["rounds"])

    resources: Any = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    flwr.simulation.run_simulation(server, client, num_supernodes=work["sites"], backend_config=resources)


def _flower_client(work: dict[str, Any]) -> Any:
    """Returns what trains at a site, as in Flower's quickstart: everything that it needs, it makes."""

    def train(message: Any, context: Any) -> Any:
        import torch
        from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

        from fedlight.randomness import derive
        from fedlight.state import load, parameters_of

        torch.set_num_threads(1)
        data = _cached_data(json.dumps(work))
        task = task_of(data, work)
        load(task, message.content["arrays"].to_torch_state_dict())
        site = data.sites[context.node_config["partition-id"]]
        number = message.content["config"]["server-round"]
        optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
        loader = data.train_loader(site, seed=derive(SEED, number, site, "data"), steps=work["steps"])
        for batch in loader:
            optimizer.zero_grad()
            loss = task.criterion(task(batch["image"]), batch["mask"], batch["valid"])
            loss.backward()
            optimizer.step()
        metrics = MetricRecord({"num-examples": data.num_samples(site), "loss": loss.item()})
        content = RecordDict({"arrays": ArrayRecord(parameters_of(task)), "metrics": metrics})
        return Message(content=content, reply_to=message)

    return train


_DATA: dict[str, Any] = {}


def _cached_data(key: str) -> Any:
    """Makes the sites once a process: Flower's processes stay, and reading data is not what is compared."""
    if key not in _DATA:
        _DATA[key] = data_of(json.loads(key))
    return _DATA[key]


# --- the comparison --------------------------------------------------------------------------------------------------


def timed(side: str, folder: Path, work: dict[str, Any]) -> list[float]:
    """Runs a side in a process of its own; returns the seconds from its start to the end of every round.

    Raises:
        RuntimeError: If it fails.
    """
    folder.mkdir()
    environment = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", f"import against_flower as a; a.run({side!r}, {str(folder)!r}, {work!r})"]
    begun = time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / "params.safetensors").is_file():
        raise RuntimeError(f"{side} failed: {(done.stdout + done.stderr)[-2000:]}")
    lines = (folder / "rounds.txt").read_text().splitlines()
    return [float(line.split()[1]) - begun for line in lines]


def run(side: str, folder: str, work: dict[str, Any]) -> None:
    """Runs one side in this process."""
    sides = {"fedlight": fedlight_side, "Flower": flower_side}
    sides[side](Path(folder), work)


def difference(one: Path, other: Path) -> float:
    """Returns the largest difference between two states, relative to the largest number."""
    from safetensors.torch import load_file

    left, right = load_file(one / "params.safetensors"), load_file(other / "params.safetensors")
    assert set(left) == set(right), "the two sides have different networks"
    largest = max(float(value.abs().max()) for value in left.values())
    return max(float((left[name] - right[name]).abs().max()) for name in left) / largest


def compare(work: dict[str, Any], repetitions: int) -> dict[str, list[list[float]]]:
    """Returns for each side the times of every repetition.

    Raises:
        AssertionError: If the two sides did not train the same model.
    """
    times: dict[str, list[list[float]]] = {"fedlight": [], "Flower": []}
    with tempfile.TemporaryDirectory() as name:
        for repetition in range(repetitions):
            order = list(times) if repetition % 2 else list(reversed(times))
            for side in order:
                times[side].append(timed(side, Path(name) / f"{side}-{repetition}", work))
            apart = difference(*(Path(name) / f"{side}-{repetition}" for side in times))
            assert apart < 1e-5, f"the two sides have different parameters after a round ({apart:.2g})"
    return times


def report(times: dict[str, list[list[float]]]) -> str:
    """Returns medians over repetitions, and ratios."""
    first = {side: statistics.median(each[0] for each in found) for side, found in times.items()}
    later = {
        side: statistics.median((each[-1] - each[0]) / (len(each) - 1) for each in found)
        for side, found in times.items()
    }
    lines = [
        f"{what}: fedlight {seconds['fedlight']:.2f} s, Flower {seconds['Flower']:.2f} s, "
        f"ratio {seconds['Flower'] / seconds['fedlight']:.2f}"
        for what, seconds in {"to the end of round 1": first, "a further round": later}.items()
    ]
    return "\n".join([*lines, "both have the same parameters after round 1 but for rounding", ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="fedlight against Flower's simulation.")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--encoder", default="plain-16")
    parser.add_argument("--executor", default="InProcess", help="of fedlight: InProcess (one core), MultiProcess (all)")
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = vars(parser.parse_args(arguments))
    repetitions = chosen.pop("repetitions")
    sys.stdout.write(report(compare(chosen, repetitions)))


if __name__ == "__main__":
    main()
