"""FedGAMMA: control variates by hand, and what they need."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from fedlight_algorithms import FedAvg, FedGAMMA
from lightning.pytorch import LightningModule
from torch import nn

from fedlight.preparation import ConfigError, build
from fedlight.state import num_bytes
from fedlight.update import Broadcast
from tests.contracts.harness import Clinic, TinySites, context_of, task

TRAINER = cast(Any, None)


class One(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.y = nn.Parameter(torch.zeros(1))


def local_round(plugin: FedGAMMA, start: float, target: float, server: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Two SGD steps of length 0.5 on (y - target)^2 / 2 from the broadcast; returns y and the change of c_k."""
    module = One()
    nn.init.constant_(module.y, start)
    plugin.instance_id = "FedGAMMA"
    broadcast = Broadcast(context_of(("A", "B")), {"y": torch.tensor([start])}, {}, {"FedGAMMA": server})
    plugin.on_round_start("A", module, broadcast)
    optimizer = torch.optim.SGD([module.y], lr=0.5)
    for _ in range(2):
        module.y.grad = module.y.detach() - target
        plugin.on_before_optimizer_step(TRAINER, module, optimizer)
        optimizer.step()
    return module.y.item(), plugin.on_round_end(module)["y"].item()


def test_two_rounds_of_control_variates() -> None:
    """Sites want 2 and -4, rho 0, steps of 0.5, all controls 0 at first.

    Round 1 from 0: A goes to 1 and 1.5 with gradients -2, -1, so c_A = -1.5; B goes to -2 and -3 with gradients 4, 2,
    so c_B = 3. The server's c is (-1.5 + 3) / 2 = 0.75.
    Round 2 from (1.5 - 3) / 2 = -0.75: A's gradients are corrected by c - c_A = 2.25: -2.75 + 2.25 = -0.5 leads to
    -0.5, -2.5 + 2.25 = -0.25 to -0.375. Option II: c_A+ = -1.5 - 0.75 + (-0.75 + 0.375) / (2 * 0.5) = -2.625.
    """
    a, b, server = FedGAMMA(rho=0.0), FedGAMMA(rho=0.0), FedGAMMA()
    assert local_round(a, 0.0, 2.0, {}) == (1.5, -1.5)
    assert local_round(b, 0.0, -4.0, {}) == (-3.0, 3.0)
    server.begin(context_of(("A", "B"), A=1, B=1), {})
    server.add("A", 1, {"y": torch.tensor([-1.5])})
    server.add("B", 1, {"y": torch.tensor([3.0])})
    control = server.finish()
    assert control["y"].item() == 0.75
    assert local_round(a, -0.75, 2.0, dict(control)) == (-0.375, -2.625 + 1.5)


def test_a_site_that_is_not_in_the_round_counts_as_unchanged() -> None:
    """One of two sites changes by 4: the server's control grows by 4 / 2 from 1 to 3."""
    server = FedGAMMA()
    server.begin(context_of(("A", "B"), A=1, B=1), {"y": torch.tensor([1.0])})
    server.add("A", 1, {"y": torch.tensor([4.0])})
    assert server.finish()["y"].item() == 3


def test_rounds_end_at_the_optimum_of_the_weighted_objective() -> None:
    """Sites want 2 and -4 with weights 3 and 1, so the federation wants (3 * 2 - 4) / 4 = 0.5.

    Sites of one curvature and as many steps would get there without controls too; they must not be led elsewhere, as
    they would be if the controls counted the sites alike, whose mean gradient vanishes at -1.
    """
    context, plugins, server = context_of(("A", "B"), A=3, B=1), (FedGAMMA(rho=0.0), FedGAMMA(rho=0.0)), FedGAMMA()
    control: dict[str, torch.Tensor] = {}
    y = 0.0
    for _ in range(30):
        server.begin(context, control)
        (a, change), (b, other) = (
            local_round(each, y, w, control) for each, w in zip(plugins, (2.0, -4.0), strict=True)
        )
        for site, value in (("A", change), ("B", other)):
            server.add(site, 1, {"y": torch.tensor([value])})
        y, control = (3 * a + b) / 4, dict(server.finish())
    assert y == pytest.approx(0.5, abs=1e-5)


def test_controls_cost_as_many_bytes_as_the_model() -> None:
    clinic = Clinic.of(FedAvg(), [FedGAMMA()]).play(1)
    broadcast = clinic.broadcast()
    assert num_bytes(dict(broadcast.shared["FedGAMMA"])) == num_bytes(broadcast.params)
    assert num_bytes(dict(clinic.fit("A", broadcast).shared["FedGAMMA"])) == num_bytes(broadcast.params)


def test_an_adaptive_optimizer_is_refused_when_the_config_is_read() -> None:
    module = task()
    module.make_optimizer = lambda parameters: torch.optim.Adam(parameters)
    plugin = FedGAMMA()
    plugin.instance_id = "FedGAMMA"
    with pytest.raises(ConfigError, match="FedGAMMA: the local optimizer must be SGD, got Adam"):
        build(module, TinySites(), [plugin], seed=0)


@pytest.mark.parametrize("arguments", [{"rho": -1.0}, {"control": -1.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must not be negative"):
        FedGAMMA(**arguments).validate()
