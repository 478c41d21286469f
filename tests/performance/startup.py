"""Seconds from ``fedlight fit`` to the first training batch, beyond what importing torch and Lightning takes.

Every measurement is a fresh process, and the two kinds alternate. The first batch is seen by a plugin in this very
file, which is loaded like anybody's plugin file and stops the run there; quickstart's data, network and console are
part of the time.

    python tests/performance/startup.py --repetitions 7
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fedlight.plugins import ClientPlugin

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SIGN = "first batch at"


class StopAtFirstBatch(ClientPlugin):
    """Says when the first training batch starts, then interrupts the run."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_index: int) -> None:
        sys.stdout.write(f"{SIGN} {time.monotonic()}\n")
        raise KeyboardInterrupt


def imports() -> float:
    """Returns the seconds that a process takes which imports torch and Lightning and does nothing."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch, lightning.pytorch"], check=True)
    return time.monotonic() - begun


def first_batch(arguments: list[str]) -> float:
    """Returns the seconds from starting ``fedlight fit`` to its first training batch.

    Raises:
        RuntimeError: If the run ended before.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fedlight", "fit", "-c", str(CONFIG), "--load", __file__]
        command += ["--federation.plugins+=StopAtFirstBatch", "--federation.run_folder", f"{folder}/run", *arguments]
        begun = time.monotonic()  # one clock for all processes of a machine
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in ended.stdout.splitlines():
        if line.startswith(SIGN):
            return float(line.removeprefix(SIGN)) - begun
    raise RuntimeError(f"no first batch: {ended.stderr}")


def main(arguments: list[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="Seconds from `fedlight fit` to the first training batch.")
    parser.add_argument("--repetitions", type=int, default=7)
    chosen, overrides = parser.parse_known_args(arguments)  # what is left goes to `fedlight fit`
    pairs = [(imports(), first_batch(overrides)) for _ in range(chosen.repetitions)]
    bare, first = (statistics.median(column) for column in zip(*pairs, strict=True))
    beyond = [pair[1] - pair[0] for pair in pairs]
    sys.stdout.write(
        f"imports {bare:.2f} s, first batch {first:.2f} s (medians of {len(pairs)}), ratio {first / bare:.2f}\n"
        f"beyond the imports {statistics.median(beyond):.2f} s ({min(beyond):.2f} to {max(beyond):.2f})\n"
    )


if __name__ == "__main__":
    main()
