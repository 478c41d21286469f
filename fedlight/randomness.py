"""Where every random number comes from: one stream for each purpose, derived from the run's seed.

A stream is named by what it is for, for instance ``(seed, round, site, plugin)``. Streams do not depend on the order
in which they are used, on other streams or on the process they run in, so switching one plugin off does not shift
another and a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: object) -> int:
    """Derives the seed of a stream, a number in [0, 2**63), from the run's seed and the stream's purpose.

    >>> derive(0, "init") == derive(0, "init") != derive(1, "init")
    True
    """
    text = "/".join([str(seed), *(str(part) for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Makes a CPU generator for one purpose; draw on the CPU and move, so that devices agree."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: object) -> Iterator[None]:
    """Seeds torch's global generators for a block and restores them afterwards (dropout, initial weights)."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if ready else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *purpose))
        yield
