"""What every plugin costs: its time over plain FedAvg's, on the quickstart's network, images and batches.

A plugin's client and FedAvg's take their steps in turn, each in a thread that stands still while the other works, so
that whatever else the machine does falls on both. What is compared is a real ``Client.fit`` with its Lightning Trainer;
batches are made beforehand. The first round is not measured: from the second on, banks and references are filled by
four sites, which here share what one does. Every pass over all plugins gives each of them a round, so that its rounds
lie far apart in time. A ratio is taken of every step to FedAvg's beside it; printed are the mean of the middle half,
which a disturbance does not move and which counts steps in which a plugin does nothing, and the quartiles.

Time is processor time of one thread. For client plugins it is that of the training steps; for aggregators that of a
round of the quickstart, four sites and six steps, with everything in it: the server, what it has measured at the sites,
and the client's half. Where nothing of a method works inside a step, a step is FedAvg's and counted as that.

    python tests/performance/plugin_cost.py              all plugins, nine minutes; writes docs/methods/costs.csv
    python tests/performance/plugin_cost.py --only MMD   one, printed only
    python tests/performance/plugin_cost.py --cards      copies the numbers from the file into the methods' cards
"""

from __future__ import annotations

import argparse
import copy
import csv
import inspect
import logging
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from fedlight_algorithms.fedavg import FedAvg
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

from fedlight.batch import Batch
from fedlight.client import Client, LocalTraining
from fedlight.data import SyntheticSites
from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.catalogue import Method, halves, methods
from fedlight.plugins.discovery import PluginInfo, discover, registered
from fedlight.preparation import ConfigError, build, prototypes
from fedlight.server import Server
from fedlight.state import buffers_of, parameters_of
from fedlight.tasks import SegmentationTask
from fedlight.update import RoundContext, Update

ROOT = Path(__file__).resolve().parents[2]
COSTS = ROOT / "docs" / "methods" / "costs.csv"
CODE = ("fedlight", "algorithms")
"""What a number depends on, beside this script."""
OPTIMIZERS: Mapping[str, Any] = {
    "Adam": partial(torch.optim.Adam, lr=0.003),
    "SGD": partial(torch.optim.SGD, lr=0.05),
}
"""The quickstart's, and one for methods that need plain gradients; their FedAvg has it too."""
SITES, STEPS = 4, 6
"""The quickstart's sites, and what each of them does in a round."""
HOOKS = (
    *("transform_batch", "restyle", "penalty", "descend", "wrap_optimizer"),
    *(name for name in dir(Callback) if name.startswith(("on_train_", "on_before_", "on_after_"))),
)
"""What works inside a step."""


# --- one side of a comparison ----------------------------------------------------------------------------------------


class Loaded(SyntheticSites):
    """Sites whose batches are all made before the first step."""

    def train_loader(self, site: str, *, seed: int, steps: int | None = None) -> DataLoader[Batch]:
        """Returns a loader that only hands over."""
        batches = list(super().train_loader(site, seed=seed, steps=steps))
        return DataLoader(batches, batch_size=None, shuffle=False)  # type: ignore[arg-type]


class Gate(Callback):
    """Stops a client's thread before every step and after the last, until it is let through."""

    def __init__(self) -> None:
        self.through, self.stopped = threading.Semaphore(0), threading.Semaphore(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Gate:
        """Is nobody's copy: a Trainer copies its callbacks, but this one belongs to whoever opens it."""
        return self

    def stop(self) -> None:
        """Stands still."""
        self.stopped.release()
        self.through.acquire()

    def let_through(self) -> float:
        """Waits for the next stop and returns the processor seconds until then."""
        begun = time.process_time()
        self.through.release()
        self.stopped.acquire()
        return time.process_time() - begun

    def on_train_batch_start(self, *_: Any) -> None:
        """Comes before the hooks of plugins."""
        self.stop()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Comes after the last step."""
        self.stop()


class Seconds(NamedTuple):
    """Processor time of a round: every step of one client, all else that it does, the server's part."""

    steps: Sequence[float]
    rest: float
    server: float

    def whole(self, step: float) -> float:
        """Returns that of a round of the quickstart in which a step takes so long."""
        return SITES * (STEPS * step + self.rest) + self.server


class Arm:
    """A federation whose sites all share what its first one does; its client takes a step when told to.

    Args:
        data: Data of the sites.
        aggregator: Of the federation.
        plugins: Of the federation.
        optimizer: Name of the sites' optimizer.
    """

    def __init__(
        self, data: SyntheticSites, aggregator: Aggregator, plugins: Sequence[ClientPlugin], optimizer: str
    ) -> None:
        half, servers = prototypes(aggregator, plugins)
        module = SegmentationTask(encoder="plain-16", optimizer=OPTIMIZERS[optimizer])
        build(module, data, [half, *servers], seed=0)
        self.data, self.gate = data, Gate()
        self.server = Server(half, servers, parameters_of(module), buffers_of(module))
        trainer = {"callbacks": [self.gate], "accelerator": "cpu"}
        local = LocalTraining(measures=half.measures, trainer=trainer)
        self.client = Client(data.sites[0], module, data, copy.deepcopy(servers), local)

    def open(self, steps: int) -> None:
        """Begins a round of so many steps: the client works up to the first."""
        self.client.local = replace(self.client.local, steps=steps)
        samples = {site: self.data.num_samples(site) for site in self.data.sites}
        weights = {site: float(count) for site, count in samples.items()}
        self.context = RoundContext(self.server.round + 1, 20, 0, self.data.sites, self.data.sites, samples, weights)
        self.steps: list[float] = []
        self.reply: Update | BaseException | None = None
        self.thread = threading.Thread(target=self._fit, daemon=True)
        self.thread.start()
        self.rest = self._go_on()

    def step(self) -> None:
        """Lets the client take a step."""
        self.steps.append(self._go_on())

    def close(self) -> Seconds:
        """Lets the client end its round and moves the server."""
        self.rest += self._go_on()
        self.thread.join()
        assert isinstance(self.reply, Update)
        begun = time.process_time()
        updates = [(site, replace(self.reply, site=site)) for site in self.data.sites]
        self.server.collect(self.context, updates, min_sites=len(updates))
        return Seconds(self.steps, self.rest, time.process_time() - begun)

    def _go_on(self) -> float:
        seconds = self.gate.let_through()
        if isinstance(self.reply, BaseException):
            raise RuntimeError(f"a client failed with {self.reply!r}") from self.reply
        return seconds

    def _fit(self) -> None:
        torch.set_num_threads(1)
        self.gate.through.acquire()
        try:
            self.reply = self.client.fit(self.server.broadcast(self.context))
        except BaseException as error:
            self.reply = error
        self.gate.stopped.release()


# --- the comparison --------------------------------------------------------------------------------------------------


class Pair:
    """A plugin beside FedAvg.

    Args:
        info: The plugin.
        data: Data of the sites.
        plain: FedAvg by the sites' optimizer.
    """

    def __init__(self, info: PluginInfo, data: SyntheticSites, plain: Mapping[str, Arm]) -> None:
        self.info = info
        self.rounds: list[tuple[Seconds, Seconds]] = []  # the plugin's and FedAvg's
        plugin: Any = info.cls()
        self.aggregates = isinstance(plugin, Aggregator)
        self.trains = works_in_steps(plugin.client_half() if self.aggregates else plugin)
        aggregator, plugins = (plugin, []) if self.aggregates else (FedAvg(), [plugin])
        try:
            self.arm, self.plain = Arm(data, aggregator, plugins, "Adam"), plain["Adam"]
        except ConfigError:
            self.arm, self.plain = Arm(data, aggregator, plugins, "SGD"), plain["SGD"]

    def play(self) -> None:
        """Plays a round on both sides, step by step; who goes first changes with every step."""
        arms = (self.arm, self.plain)
        steps = STEPS if self.trains else 1
        for arm in arms:
            arm.open(steps)
        for number in range(steps):
            for arm in arms if number % 2 else arms[::-1]:
                arm.step()
        self.rounds.append((self.arm.close(), self.plain.close()))

    def ratios(self) -> list[float]:
        """Returns the plugin's time over FedAvg's for every step but those of the first round."""
        ratios = []
        for mine, plain in self.rounds[1:]:
            for step, beside in zip(mine.steps if self.trains else plain.steps, plain.steps, strict=True):
                ratios.append(mine.whole(step) / plain.whole(beside) if self.aggregates else step / beside)
        return ratios

    def row(self) -> dict[str, str]:
        """Returns the line of the table."""
        ratios = sorted(self.ratios())
        first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
        middle = statistics.mean(ratios[len(ratios) // 4 : len(ratios) - len(ratios) // 4])
        return {
            "name": self.info.name,
            "per": "round" if self.aggregates else "step",
            "ratio": f"{middle:.3f}",
            "first_quartile": f"{first:.3f}",
            "third_quartile": f"{third:.3f}",
            "steps": str(len(ratios)),
            "server_ms": f"{1000 * statistics.median(mine.server for mine, _ in self.rounds[1:]):.0f}",
        }


def works_in_steps(plugin: ClientPlugin | None) -> bool:
    """Says whether a plugin has a hook that is called in every step."""
    return (
        any(getattr(type(plugin), name, None) is not getattr(ClientPlugin, name) for name in HOOKS) if plugin else False
    )


def measure(names: Iterable[str], minutes: float, say: Callable[[str], object]) -> list[dict[str, str]]:
    """Compares plugins with FedAvg until the time is up, but at least in two rounds."""
    deadline = time.monotonic() + 60 * minutes
    data = Loaded(num_sites=SITES + 1, held_out="site5", cases=24, image_size=64, anatomy="fundus", batch_size=8)
    data.prepare()
    plain = {name: Arm(data, FedAvg(), (), name) for name in OPTIMIZERS}
    pairs = [Pair(info, data, plain) for info in registered() if info.name in names]
    took, passes = 0.0, 0
    while passes < 3 or time.monotonic() + took < deadline:
        begun = time.monotonic()
        for pair in pairs:
            pair.play()
        took, passes = time.monotonic() - begun, passes + 1
        say(f"pass {passes}: {took:.0f} s for {len(pairs)} plugins\n")
    return [pair.row() for pair in pairs]


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns the rows for a terminal."""
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    lines = [{key: key for key in widths}, *rows]
    return "".join("  ".join(line[key].ljust(widths[key]) for key in widths).rstrip() + "\n" for line in lines)


def conditions() -> dict[str, str]:
    """Returns what a number depends on."""
    commit = _git("rev-parse", "--short", "HEAD") + ("-dirty" if _git("status", "--porcelain", *CODE) else "")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "lightning": lightning.__version__}
    return {"versions": " ".join(f"{name} {version}" for name, version in versions.items()), "commit": commit}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


# --- the cards -------------------------------------------------------------------------------------------------------


def costs() -> dict[str, float]:
    """Returns the ratio of every plugin that was measured."""
    with COSTS.open(newline="", encoding="utf-8") as file:
        return {row["name"]: float(row["ratio"]) for row in csv.DictReader(file)}


def write_cards() -> None:
    """Puts the numbers of the file into the cards."""
    measured = costs()
    for method in methods():
        if any(info.name in measured for info in method.plugins):
            path = Path(inspect.getfile(method.plugins[0].cls))
            path.write_text(with_number(path.read_text(), said(method, measured)))


def said(method: Method, measured: Mapping[str, float]) -> float:
    """Returns what a card says: of several plugins the time of the dearest; what is below 1 is noise."""
    return round(max(1.0, *(measured[info.name] for info in method.plugins)), 2)


def with_number(text: str, ratio: float) -> str:
    """Puts a ratio into the first phrase about FedAvg's time."""
    return re.sub(r"\d+(\.\d+)?(?=\s+times\s+FedAvg's\s+time)", f"{ratio:.2f}", text, count=1)


def main(arguments: list[str] | None = None) -> None:
    """Measures what the command line asks for, prints it and keeps it."""
    parser = argparse.ArgumentParser(description="Time of every plugin over FedAvg's.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some plugins, printed only")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop")
    parser.add_argument("--cards", action="store_true", help="measure nothing; put the kept numbers into the cards")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # Lightning's, in threads that share one list of filters
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    discover()
    if chosen.cards:
        write_cards()
        return
    timed = {info.name for info in registered() if info.origin == "fedlight" and info.kind != "codec"}
    names = timed - set(halves())
    rows = measure(chosen.only or names, chosen.minutes, sys.stderr.write)
    sys.stdout.write(table(rows))
    if not chosen.only:
        COSTS.parent.mkdir(parents=True, exist_ok=True)
        with COSTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*rows[0], *conditions()], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, **conditions()} for row in rows)


if __name__ == "__main__":
    main()
