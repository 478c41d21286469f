"""Where the time of a run goes: named sections, timed only while somebody asks.

Sections lie inside each other, and the time of one is that without those inside it, so that all of them add up to the
time of the outermost ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lightning.pytorch.profilers import Profiler

LIGHTNING = {
    "train_dataloader_next": "load batches",
    "val_next": "load batches",
    "training_step": "forward pass, loss and plugins",
    "backward": "backward pass",
    "optimizer_step": "optimizer",
    "validation_step": "score cases",
}
"""What a Trainer tells of its work -> the section that it belongs to."""


@dataclass
class Stopwatch:
    """Seconds and calls of every section.

    Attributes:
        seconds: Without the sections inside.
        calls: How often it was entered.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    _open: list[tuple[str, float]] = field(default_factory=list)
    _inside: list[float] = field(default_factory=list)  # seconds of what lies inside, for every open section

    def start(self, name: str) -> None:
        """Enters a section."""
        self._open.append((name, time.perf_counter()))
        self._inside.append(0.0)

    def stop(self) -> None:
        """Leaves the section that was entered last."""
        name, begun = self._open.pop()
        took, inside = time.perf_counter() - begun, self._inside.pop()
        self.seconds[name] = self.seconds.get(name, 0.0) + took - inside
        self.calls[name] = self.calls.get(name, 0) + 1
        if self._inside:
            self._inside[-1] += took

    @property
    def total(self) -> float:
        """Seconds of all sections."""
        return sum(self.seconds.values())


_active: Stopwatch | None = None


@contextmanager
def measuring() -> Iterator[Stopwatch]:
    """Times the sections of a block."""
    global _active
    before, _active = _active, Stopwatch()
    try:
        yield _active
    finally:
        _active = before


@contextmanager
def section(name: str) -> Iterator[None]:
    """Gives a block a name; costs nothing to speak of while nobody asks."""
    watch = _active
    if watch is None:
        yield
        return
    watch.start(name)
    try:
        yield
    finally:
        watch.stop()


class TrainerSections(Profiler):
    """Takes what a Trainer tells of its work as sections."""

    def start(self, action_name: str) -> None:
        """Enters the section of an action, if it has one."""
        if _active is not None and (name := _section_of(action_name)) is not None:
            _active.start(name)

    def stop(self, action_name: str) -> None:
        """Leaves it."""
        if _active is not None and _section_of(action_name) is not None:
            _active.stop()


def trainer_sections() -> TrainerSections | None:
    """Returns what a Trainer needs to tell of its work; None while nobody asks."""
    return None if _active is None else TrainerSections()


def _section_of(action: str) -> str | None:
    """Says which section an action is, for instance "[Strategy]SingleDeviceStrategy.backward"."""
    place, _, name = action.rpartition(".")
    if place.startswith("[LightningModule]") and name != "optimizer_step":
        return None  # the module's own steps lie inside those of the strategy
    return LIGHTNING.get(name) if place.startswith("[") else None
