"""The worked example of the page on migrating is the method that it says it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fedlight_algorithms import FedProx
from lightning.pytorch import LightningModule
from torch import nn

from fedlight.plugins import ClientPlugin
from fedlight.plugins.discovery import discover, find
from fedlight.update import Broadcast
from tests.contracts import checks
from tests.contracts.harness import context_of, own_registry
from tests.docs.pages import PAGES, blocks


@pytest.fixture
def example(tmp_path: Path) -> Iterator[type[Any]]:
    (block,) = (block for block in blocks(PAGES["migrating.md"].read_text()) if block.file == "my_prox.py")
    (tmp_path / "my_prox.py").write_text(block.text)
    with own_registry():
        discover([tmp_path / "my_prox.py"])
        yield find("MyProx").cls


class One(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(2))


def pull(plugin: ClientPlugin) -> tuple[float, list[float]]:
    """Returns the penalty and its gradient after the model moved by (1, 2)."""
    module = One()
    plugin.on_round_start("A", module, Broadcast(context_of(), {"shared": torch.zeros(2)}, {}))
    with torch.no_grad():
        module.shared.add_(torch.tensor([1.0, 2.0]))
    penalty = plugin.penalty(cast(Any, None))
    assert penalty is not None
    torch.autograd.backward(penalty)
    assert module.shared.grad is not None
    return penalty.item(), module.shared.grad.tolist()


def test_the_example_pulls_as_fedprox_does(example: type[Any]) -> None:
    """Mu 0.5, w - w_t = (1, 2): 0.5 / 2 * (1 + 4) = 1.25 with gradient 0.5 * (1, 2)."""
    assert pull(example(mu=0.5)) == pull(FedProx(mu=0.5)) == (1.25, [0.5, 1.0])


def test_the_example_keeps_the_contract(example: type[Any]) -> None:
    for check in (checks.constructor_only_stores, checks.null_setting_is_fedavg):
        check(example)
