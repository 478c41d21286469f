"""How fast the weighted mean takes in updates, against the machine's memory bandwidth, and what memory it needs.

Copying a state and adding one to the mean take turns. Adding reads a float32 and reads and writes a float64 for every
number, 20 bytes; copying reads and writes a float32, 8 bytes. The ratio compares bytes moved per second.

    python tests/performance/streaming_mean.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch

from fedlight.state import RunningMean, State, num_bytes

ADDED, COPIED = 20, 8
"""Bytes that are moved for a number."""


def compare(megabytes: int, repetitions: int) -> tuple[list[float], list[float]]:
    """Returns bytes per second of adding and of copying, in turns."""
    state = made(megabytes)
    target = {name: torch.empty_like(value) for name, value in state.items()}
    mean = RunningMean()
    mean.add(state, 1.0)
    numbers = num_bytes(state) / 4
    added, copied = [], []
    for _ in range(repetitions):
        copied.append(numbers * COPIED / timed(lambda: [target[name].copy_(value) for name, value in state.items()]))
        added.append(numbers * ADDED / timed(lambda: mean.add(state, 3.0)))
    return added, copied


def extra_memory(megabytes: int) -> float:
    """Returns the memory that the mean of three states holds, as a multiple of one state."""
    state = made(megabytes)
    mean = RunningMean()
    for weight in (1.0, 2.0, 3.0):
        mean.add(state, weight)
    return num_bytes(mean._sum) / num_bytes(state)


def made(megabytes: int) -> State:
    """Makes a state of about so many megabytes in fifty tensors."""
    return {f"w{index}": torch.randn(megabytes * 5000) for index in range(50)}


def timed(call: Callable[[], object]) -> float:
    """Calls and returns the seconds that it took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for and prints it."""
    parser = argparse.ArgumentParser(description="The weighted mean against the machine's memory bandwidth.")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=20)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    added, copied = compare(chosen.megabytes, chosen.repetitions)
    ratio = statistics.median(one / other for one, other in zip(added, copied, strict=True))
    sys.stdout.write(
        f"adding {statistics.median(added) / 1e9:.1f} GB/s, copying {statistics.median(copied) / 1e9:.1f} GB/s, "
        f"ratio {ratio:.2f} (medians of {chosen.repetitions})\n"
        f"memory beside the updates: {extra_memory(chosen.megabytes):.1f} times a model\n"
    )


if __name__ == "__main__":
    main()
