"""A plugin that brings a fault of the world to a site, for real; workers import it by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fedlight.batch import Batch
from fedlight.plugins import ClientPlugin
from fedlight.update import Broadcast


class Faulty(ClientPlugin):
    """Misbehaves at sites in rounds, and writes down which processes have been there.

    Args:
        plan: "site, round" -> what happens in the middle of its training: "raise", "sys.exit", "exit", "kill",
            "kill once", "hang", "nan", "shape", "unsendable", "disk full".
        folder: Where process ids are written, one file a process.
    """

    def __init__(self, plan: Mapping[str, str], folder: str) -> None:
        self.plan, self.folder = plan, folder

    def on_round_start(self, site: str, module: Any, broadcast: Broadcast) -> None:
        self._site, self._round = site, broadcast.context.round
        self._how = self.plan.get(f"{site}, {self._round}", "")
        (Path(self.folder) / f"{os.getpid()}.pid").touch()

    def transform_batch(self, batch: Batch) -> Batch:
        if self._how == "raise":
            raise RuntimeError("the scanner is on fire")
        if self._how == "sys.exit":
            sys.exit(2)
        if self._how == "exit":  # as a library does that is written in C
            os._exit(3)
        if self._how == "kill" or (self._how == "kill once" and self._first()):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "hang":
            child = subprocess.Popen(["sleep", "600"])  # stands for the processes of a loader
            (Path(self.folder) / f"{child.pid}.pid").touch()
            time.sleep(600)
        return batch

    def on_round_end(self, module: Any) -> Mapping[str, torch.Tensor]:
        if self._how == "nan":
            with torch.no_grad():
                next(module.parameters()).fill_(float("nan"))
        if self._how == "shape":
            parameter = next(module.parameters())
            parameter.data = torch.zeros(3)
        if self._how == "unsendable":
            return {"statistic": lambda: 0}  # type: ignore[dict-item]
        if self._how == "disk full":
            folder = Path(self.folder).parent / "run" / "sites" / self._site
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self._round:05d}.safetensors.part").symlink_to("/dev/full")
        return {}

    def _first(self) -> bool:
        seen = Path(self.folder) / f"{self._site}-{self._round}"
        first = not seen.exists()
        seen.touch()
        return first


class Slow(ClientPlugin):
    """Works slowly at sites, and writes down which processes have been there.

    Args:
        seconds: What every batch takes at a site beyond its work.
        folder: Where process ids are written, one file a process.
    """

    def __init__(self, seconds: Mapping[str, float], folder: str) -> None:
        self.seconds, self.folder = seconds, folder

    def on_round_start(self, site: str, module: Any, broadcast: Broadcast) -> None:
        self._site = site
        (Path(self.folder) / f"{os.getpid()}.pid").touch()

    def transform_batch(self, batch: Batch) -> Batch:
        time.sleep(self.seconds.get(self._site, 0.0))
        return batch


def alive(folder: Path) -> list[int]:
    """Process ids in a folder of processes that are still there; one that only waits to be buried is not."""
    return [pid for pid in (int(path.stem) for path in folder.glob("*.pid")) if pid != os.getpid() and _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
