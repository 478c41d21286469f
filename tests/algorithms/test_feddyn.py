"""FedDyn: both halves by hand, and the optimum that all sites agree on."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from fedlight_algorithms import DynamicRegularizer, FedDyn
from lightning.pytorch import LightningModule
from torch import nn

from fedlight.state import State
from fedlight.update import Broadcast
from tests.contracts.harness import Clinic, aggregate, context_of, update_of

STEP = cast(Any, None)  # the terms do not look at the step


class Two(LightningModule):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.full((2,), value))
        self.own = nn.Parameter(torch.zeros(2))

    def move(self, *amount: float) -> None:
        with torch.no_grad():
            self.shared.add_(torch.tensor(amount))
            self.own.add_(1.0)


def begin(plugin: DynamicRegularizer, module: Two) -> None:
    plugin.on_round_start("A", module, Broadcast(context_of(), {"shared": module.shared.detach().clone()}, {}))


def test_penalty_and_gradient_by_hand() -> None:
    """Alpha 0.5. Round 1 moves by (2, -4), so h = (-1, 2). Round 2 has moved by (1, 1) from (2, -4) to (3, -3).

    Penalty 0.25 * 2 - (-1 * 3 + 2 * -3) = 9.5, gradient 0.5 * (1, 1) - (-1, 2) = (1.5, -1.5). Private tensors are free.
    """
    plugin, module = DynamicRegularizer(alpha=0.5), Two()
    begin(plugin, module)
    module.move(2.0, -4.0)
    plugin.on_round_end(module)
    begin(plugin, module)
    module.move(1.0, 1.0)
    penalty = plugin.penalty(STEP)
    assert penalty is not None
    torch.autograd.backward(penalty)
    assert penalty.item() == 9.5
    assert module.shared.grad is not None
    assert module.shared.grad.tolist() == [1.5, -1.5]
    assert module.own.grad is None


def test_the_gradient_state_adds_up_and_survives() -> None:
    """H = -0.5 * ((2, -4) + (1, 1)) = (-1.5, 1.5), also after a restart between the rounds."""
    plugin, module = DynamicRegularizer(alpha=0.5), Two()
    begin(plugin, module)
    module.move(2.0, -4.0)
    plugin.on_round_end(module)
    saved, plugin = plugin.state_dict(), DynamicRegularizer(alpha=0.5)
    plugin.load_state_dict(saved)
    begin(plugin, module)
    module.move(1.0, 1.0)
    plugin.on_round_end(module)
    assert plugin.state_dict()["h"].tolist() == [-1.5, 1.5]


def test_server_by_hand() -> None:
    """Alpha 0.5, weights 1 of 4 sites in all, A and B in the round, from 1 to 3 and to 7.

    h = -0.5 / 4 * (2 + 6) = -1, w = 5 + 1 / 0.5 = 7. From 7, both to 7: h stays, w = 7 + 2 = 9.
    """
    context = context_of(tuple("ABCD"), A=1, B=1, C=1, D=1)
    plugin = FedDyn(alpha=0.5)
    updates: dict[str, State] = {"A": {"w": torch.tensor([3.0])}, "B": {"w": torch.tensor([7.0])}}
    assert aggregate(plugin, context, {"w": torch.tensor([1.0])}, updates)["w"].item() == 7
    assert plugin.state_dict()["h"]["w"].item() == -1
    still: dict[str, State] = {site: {"w": torch.tensor([7.0])} for site in "AB"}
    assert aggregate(plugin, context, {"w": torch.tensor([7.0])}, still)["w"].item() == 9


@pytest.mark.parametrize("weights", [(1, 1), (3, 1)])
def test_rounds_end_at_the_optimum_of_the_weighted_objective(weights: tuple[int, int]) -> None:
    """Sites minimise a/2 w^2 - b w with (a, b) = (1, 2) and (4, 0), and solve their problem exactly.

    w_k = (b_k + h_k + alpha w_t) / (a_k + alpha). The optimum is sum p b / sum p a: 1 / 2.5 = 0.4; 1.5 / 1.75 = 6 / 7.
    """
    sites = {"A": (1.0, 2.0), "B": (4.0, 0.0)}
    context = context_of(("A", "B"), A=weights[0], B=weights[1])
    server, alpha, w = FedDyn(alpha=0.5), 0.5, torch.zeros(1, dtype=torch.float64)
    gradient = dict.fromkeys(sites, 0.0)
    for _ in range(80):
        server.begin(context, {"w": w})
        for site, (a, b) in sites.items():
            own = (b + gradient[site] + alpha * w) / (a + alpha)
            gradient[site] -= alpha * float(own - w)
            server.add(update_of(site, {"w": own}))
        w = server.finish()["w"]
    p = weights[0] / sum(weights)
    assert w.item() == pytest.approx(2 * p / (p + 4 * (1 - p)))


def test_both_halves_are_one_name_and_nothing_more_is_shared() -> None:
    clinic = Clinic.of(FedDyn()).play(1)
    update = clinic.fit("A", clinic.broadcast())
    assert "DynamicRegularizer/penalty" in update.metrics
    assert not update.shared
    assert not clinic.broadcast().shared


def test_negative_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha must not be negative, got -1"):
        FedDyn(alpha=-1).validate()
