"""SCAFFOLD: controls by hand, whole rounds on quadratics, and the optimizers that it refuses."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from fedlight_algorithms import Scaffold, ScaffoldControl
from fedlight_algorithms.scaffold import option_two
from lightning.pytorch import LightningModule
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from fedlight.preparation import ConfigError, build, prototypes
from fedlight.state import State, num_bytes, parameters_of
from fedlight.update import Broadcast
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, context_of, task, update_of

TRAINER: Any = None


class Point(LightningModule):
    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())


def local_round(
    plugin: ScaffoldControl, broadcast: Broadcast, a: float, b: float, steps: int, optimizer: Any
) -> tuple[torch.Tensor, Any]:
    """Plays a site's round on a/2 w^2 - b w with the hooks that Lightning would call."""
    module = Point(broadcast.params["w"])
    plugin.on_round_start("A", module, broadcast)
    local = plugin.wrap_optimizer(optimizer(module.parameters()))
    plugin.on_train_start(TRAINER, module)
    for _ in range(steps):
        local.zero_grad()
        torch.autograd.backward((a / 2 * module.w**2 - b * module.w).sum())
        plugin.on_before_optimizer_step(TRAINER, module, local)
        local.step()
    return module.w.detach().clone(), plugin.on_round_end(module)


def test_option_two_by_hand() -> None:
    """c_k = 1, c = 3, from 5 to 2 in 3 steps of 0.5: 1 - 3 + 3 / 1.5 = 0."""
    x, y, c_k, c = (torch.tensor([value]) for value in (5.0, 2.0, 1.0, 3.0))
    assert option_two(x, y, c - c_k, 3 * 0.5).item() == 0


def test_two_rounds_by_hand() -> None:
    """w^2 / 2 at A, 2 w^2 - 4 w at B, both from 1 with 2 steps of 0.25, equal weights.

    Round 1, no controls yet. A: gradients 1, 0.75, y = 0.5625, c_A = 0.4375 / 0.5 = 0.875. B: gradients 0, 0, y = 1,
    c_B = 0. w = 0.78125, c = 0.4375.
    Round 2. A corrects by -0.4375: gradients 0.78125 - 0.4375 = 0.34375, y = 0.6953125; then 0.2578125,
    y = 0.630859375. B corrects by +0.4375: 4 * 0.78125 - 4 = -0.875, so -0.4375, y = 0.890625; then
    -0.4375 + 0.4375 = 0, y = 0.890625. w = 0.7607421875.
    c_A = (0.78125 - 0.630859375) / 0.5 + 0.4375 = 0.73828125, c_B = -0.109375 / 0.5 - 0.4375 = -0.65625.
    """
    context = context_of(("A", "B"), A=1, B=1)
    sites = {"A": (1.0, 0.0), "B": (4.0, 4.0)}
    aggregator, server = Scaffold(), ScaffoldControl()
    clients = {site: ScaffoldControl() for site in sites}
    w: State = {"w": torch.tensor([1.0])}
    c: Any = {}
    for expected_w, expected_c in ((0.78125, 0.4375), (0.7607421875, (0.73828125 - 0.65625) / 2)):
        aggregator.begin(context, w)
        server.begin(context, c)
        for site, (a, b) in sites.items():
            y, change = local_round(clients[site], Broadcast(context, w, {}, {"": c}), a, b, 2, partial(SGD, lr=0.25))
            aggregator.add(update_of(site, {"w": y}))
            server.add(site, 1, change)
        w, c = aggregator.finish(), server.finish()
        assert (w["w"].item(), c["w"].item()) == (expected_w, expected_c)


@pytest.mark.parametrize(("weights", "momentum"), [((1, 1), 0.0), ((3, 1), 0.0), ((1, 1), 0.5)])
def test_many_local_steps_end_at_the_optimum_of_the_weighted_objective(
    weights: tuple[int, int], momentum: float
) -> None:
    """Sites as above, A and B with 8 and 3 steps: the optimum sum p b / sum p a is 4 / 5, and 4 / 7 for weights 3, 1.

    FedAvg ends elsewhere, as it must: each site drifts to its own optimum, 0 or 1.
    """
    context = context_of(("A", "B"), A=weights[0], B=weights[1])
    sites = {"A": (1.0, 0.0, 8), "B": (4.0, 4.0, 3)}
    p = weights[0] / sum(weights)
    ends = {}
    for correction in (1.0, 0.0):
        aggregator, server = Scaffold(correction=correction), ScaffoldControl(correction)
        clients = {site: ScaffoldControl(correction) for site in sites}
        w: State = {"w": torch.zeros(1, dtype=torch.float64)}
        c: Any = {}
        for _ in range(120):
            aggregator.begin(context, w)
            server.begin(context, c)
            for site, (a, b, steps) in sites.items():
                broadcast = Broadcast(context, w, {}, {"": c})
                y, change = local_round(clients[site], broadcast, a, b, steps, partial(SGD, lr=0.05, momentum=momentum))
                aggregator.add(update_of(site, {"w": y}))
                if change:
                    server.add(site, 1, change)
            w, c = aggregator.finish(), server.finish()
        ends[correction] = w["w"].item()
    optimum = 4 * (1 - p) / (p + 4 * (1 - p))
    assert ends[1.0] == pytest.approx(optimum, abs=1e-6)
    assert abs(ends[0.0] - optimum) > 0.01


def test_a_site_that_is_not_in_the_round_keeps_its_part_of_the_common_control() -> None:
    """Four sites of weight 1; A and B change their controls by 2 and 6: c grows by 8 / 4."""
    plugin = ScaffoldControl()
    plugin.begin(context_of(tuple("ABCD"), A=1, B=1, C=1, D=1), {"w": torch.tensor([1.0])})
    plugin.add("A", 1, {"w": torch.tensor([2.0])})
    plugin.add("B", 1, {"w": torch.tensor([6.0])})
    assert plugin.finish()["w"].item() == 3


def test_server_lr_scales_the_step() -> None:
    """From 1 with a mean of 3: 1 + 0.5 * 2 = 2."""
    plugin = Scaffold(server_lr=0.5)
    plugin.begin(context_of(("A",)), {"w": torch.tensor([1.0])})
    plugin.add(update_of("A", {"w": torch.tensor([3.0])}))
    assert plugin.finish()["w"].item() == 2


def test_a_control_of_a_models_size_goes_each_way() -> None:
    clinic = Clinic.of(Scaffold()).play(1)
    broadcast = clinic.broadcast()
    update = clinic.fit("A", broadcast)
    size = num_bytes(parameters_of(task()))
    assert num_bytes(dict(broadcast.shared["ScaffoldControl"])) == size
    assert num_bytes(dict(update.shared["ScaffoldControl"])) == size


def test_controls_are_mean_gradients() -> None:
    """In the harness every site makes two steps of 0.1: after a round c_k = (w_t - y) / 0.2."""
    clinic = Clinic.of(Scaffold())
    start = parameters_of(clinic.clients["A"].module)
    update = clinic.fit("A", clinic.broadcast())
    for name, change in update.shared["ScaffoldControl"].items():
        torch.testing.assert_close(change, (start[name] - update.params[name]) / 0.2)


def test_steps_count_and_not_gradients() -> None:
    """An optimizer that looks at two gradients a step, as SAM does: one step of 0.25 from 1 to 0.75 gives c_k = 1."""
    plugin, module = ScaffoldControl(), Point(torch.ones(1))
    plugin.on_round_start("A", module, Broadcast(context_of(), {"w": torch.ones(1)}, {}))
    local = plugin.wrap_optimizer(SGD(module.parameters(), lr=0.25))
    plugin.on_train_start(TRAINER, module)
    for _ in range(2):
        local.zero_grad()
        torch.autograd.backward((module.w**2 / 2).sum())
        plugin.on_before_optimizer_step(TRAINER, module, local)
    local.step()
    assert plugin.on_round_end(module)["w"].tolist() == [1.0]


def test_what_sits_a_step_out_does_not_count_it() -> None:
    """Of two steps of 0.25 under a gradient of 2 a parameter makes one, to 0.5: c_k = 0.5 / 0.25 = 2, not 1."""
    plugin, module = ScaffoldControl(), Point(torch.ones(1))
    plugin.on_round_start("A", module, Broadcast(context_of(), {"w": torch.ones(1)}, {}))
    local = plugin.wrap_optimizer(SGD(module.parameters(), lr=0.25))
    plugin.on_train_start(TRAINER, module)
    for gradient in (torch.full((1,), 2.0), None):
        module.w.grad = gradient
        plugin.on_before_optimizer_step(TRAINER, module, local)
        local.step()
    assert plugin.on_round_end(module)["w"].tolist() == [2.0]


@pytest.mark.parametrize("optimizer", [Adam, AdamW, RMSprop])
def test_adaptive_optimizers_are_refused_when_the_config_is_read(optimizer: Any) -> None:
    sites = small_sites()
    sites.prepare()
    aggregator, plugins = prototypes(Scaffold(), [])
    sentence = f"ScaffoldControl: the local optimizer must be SGD, got {optimizer.__name__}: .* Use torch.optim.SGD"
    with pytest.raises(ConfigError, match=sentence):
        build(small_task(optimizer=partial(optimizer, lr=0.01)), sites, [aggregator, *plugins], 0)


def test_adaptive_optimizers_are_refused_by_the_site_too() -> None:
    with pytest.raises(ValueError, match="the local optimizer must be SGD, got Adam"):
        ScaffoldControl().wrap_optimizer(Adam([nn.Parameter(torch.zeros(1))]))


@pytest.mark.parametrize("arguments", [{"server_lr": 0.0}, {"correction": 2.0}])
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, float]) -> None:
    plugin = Scaffold(**arguments)
    with pytest.raises(ValueError, match=next(iter(arguments))):
        prototypes(plugin, [])
