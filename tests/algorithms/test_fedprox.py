"""FedProx: value and gradient of the pull."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from fedlight_algorithms import FedProx
from lightning.pytorch import LightningModule
from torch import nn

from fedlight.update import Broadcast
from tests.contracts.harness import context_of

STEP = cast(Any, None)  # the pull does not look at the step


class Two(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(2))
        self.own = nn.Parameter(torch.zeros(2))


def begun(plugin: FedProx, module: Two) -> FedProx:
    plugin.on_round_start("A", module, Broadcast(context_of(), {"shared": module.shared.detach().clone()}, {}))
    return plugin


def test_pull_is_half_mu_times_the_squared_distance() -> None:
    """Mu 0.5, w - w_t = (1, 2): 0.5 / 2 * (1 + 4) = 1.25 with gradient 0.5 * (1, 2). The private tensor is free."""
    module = Two()
    plugin = begun(FedProx(mu=0.5), module)
    with torch.no_grad():
        module.shared.add_(torch.tensor([1.0, 2.0]))
        module.own.add_(7.0)
    pull = plugin.penalty(STEP)
    assert pull is not None
    torch.autograd.backward(pull)
    assert pull.item() == 1.25
    assert module.shared.grad is not None
    assert module.shared.grad.tolist() == [0.5, 1.0]
    assert module.own.grad is None


def test_pull_and_its_gradient_are_zero_at_the_start() -> None:
    module = Two()
    pull = begun(FedProx(mu=0.5), module).penalty(STEP)
    assert pull is not None
    torch.autograd.backward(pull)
    assert pull.item() == 0
    assert module.shared.grad is not None
    assert module.shared.grad.tolist() == [0, 0]


def test_zero_mu_adds_nothing_to_the_graph() -> None:
    assert begun(FedProx(mu=0.0), Two()).penalty(STEP) is None


def test_pull_is_of_this_round_only() -> None:
    """A second round starts from where the module is then."""
    module = Two()
    plugin = begun(FedProx(mu=2.0), module)
    plugin.on_round_end(module)
    with torch.no_grad():
        module.shared.add_(3.0)
    pull = begun(plugin, module).penalty(STEP)
    assert pull is not None
    assert pull.item() == 0


def test_negative_mu_is_refused() -> None:
    with pytest.raises(ValueError, match="mu must not be negative, got -1"):
        FedProx(mu=-1).validate()


def test_memory_format_of_the_network_does_not_matter() -> None:
    """A weight of three ones moved by 2: 1 / 2 * 3 * 4 = 6, also when its channels come last in memory."""
    module = Two()
    module.shared = nn.Parameter(torch.ones(1, 3, 1, 1).to(memory_format=torch.channels_last))
    plugin = begun(FedProx(mu=1.0), module)
    with torch.no_grad():
        module.shared.add_(2.0)
    pull = plugin.penalty(STEP)
    assert pull is not None
    assert pull.item() == 6
