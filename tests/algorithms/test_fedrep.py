"""FedRep: head steps first, body steps after them, under any optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, FedRep
from lightning.pytorch import Callback, LightningModule

from fedlight.client import LocalTraining
from fedlight.state import State, parameters_of
from tests.contracts.harness import Clinic


class Watch(Callback):
    """Notes after every step which parts have moved since the last."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self._before: State = {}

    def on_train_batch_end(self, trainer: Any, module: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        now = parameters_of(module)
        changed = {name.split(".")[1] for name in now if not torch.equal(now[name], self._before[name])}
        self.moved.append(changed)
        self._before = now

    def on_train_start(self, trainer: Any, module: LightningModule) -> None:
        self._before = parameters_of(module)


def watched(plugin: FedRep, optimizer: Any, epochs: int) -> list[set[str]]:
    """Plays two rounds at site A, which has two batches an epoch."""
    watch, clinic = Watch(), Clinic.of(FedAvg(), [plugin])
    client = clinic.clients["A"]
    client.local = LocalTraining(epochs=epochs, trainer={"callbacks": []})
    client.module.make_optimizer = optimizer
    client._resident_trainer().callbacks.append(watch)  # type: ignore[attr-defined]
    for _ in range(2):
        clinic.fit("A", clinic.broadcast())
    return watch.moved


BODY = {"encoder1", "encoder2", "bottleneck"}


def test_the_head_moves_first_then_the_body_in_every_round() -> None:
    """Two epochs of two batches: two steps of the head, two of the body, and the same in the next round."""
    moved = watched(FedRep(), lambda p: torch.optim.SGD(p, lr=0.1), 2)
    assert moved == [{"head"}, {"head"}, BODY, BODY] * 2


def test_share_rounds_down() -> None:
    """A share of 0.6 of four steps is 2.4: two are the head's."""
    assert watched(FedRep(head_share=0.6), lambda p: torch.optim.SGD(p, lr=0.1), 2)[:4] == [{"head"}] * 2 + [BODY] * 2


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_weight_decay_and_momentum_leave_the_other_part_alone(kind: Any) -> None:
    moved = watched(FedRep(), lambda p: kind(p, lr=0.1, weight_decay=0.1), 1)
    assert moved[:2] == [{"head"}, BODY]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_part_without_steps_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"head_share must be in \(0, 1\)"):
        FedRep(head_share=share).validate()
