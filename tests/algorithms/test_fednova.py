"""FedNova: local work by hand, and the round's step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from fedlight_algorithms import FedAvg, FedNova
from torch.optim import SGD, Adam

from fedlight.plugins.local_steps import accumulated, momentum_of
from fedlight.preparation import ConfigError, build, prototypes
from fedlight.state import State, digest
from tests.conftest import small_sites, small_task
from tests.contracts.harness import aggregate, context_of, update_of


def one_round(plugin: FedNova, start: float, values: dict[str, tuple[float, float, float]]) -> float:
    """Plays one round; a site is (value, steps, weight)."""
    context = replace(context_of(tuple(values)), weights={site: weight for site, (_, _, weight) in values.items()})
    plugin.begin(context, {"w": torch.tensor([start])})
    for site, (value, steps, _) in values.items():
        plugin.add(update_of(site, {"w": torch.tensor([value])}, steps=steps))
    return plugin.finish()["w"].item()


def test_work_of_plain_sgd_is_its_steps() -> None:
    assert [accumulated(steps) for steps in (1, 2, 7)] == [1, 2, 7]


def test_work_with_momentum() -> None:
    """Rho 0.5, three steps: the gradients count 1.75, 1.5 and 1."""
    assert accumulated(3, momentum=0.5) == 4.25


def test_work_with_a_proximal_term() -> None:
    """A pull of a quarter, three steps: 0.5625 + 0.75 + 1 = (1 - 0.75^3) / 0.25."""
    assert accumulated(3, prox=0.25) == pytest.approx((1 - 0.75**3) / 0.25)


def test_work_with_both() -> None:
    """Rho 0.5, prox 0.25: the way of a unit gradient is 1, then 1 + (0.5 - 0.25) = 1.25, then 1.25 + 0.125 - 0.3125."""
    assert accumulated(3, momentum=0.5, prox=0.25) == pytest.approx(1 + 1.25 + 1.0625)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_work_is_what_torch_does(momentum: float) -> None:
    """Under a constant gradient of 1 and rate 0.5, SGD goes 0.5 ||a||_1 in five steps."""
    w = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = SGD([w], lr=0.5, momentum=momentum)
    for _ in range(5):
        optimizer.zero_grad()
        torch.autograd.backward(w)
        optimizer.step()
    assert -w.item() == pytest.approx(0.5 * accumulated(5, momentum_of(optimizer)))


def test_a_round_by_hand() -> None:
    """From 1: A goes to 5 in 4 steps (weight 3), B to 0 in 1 step (weight 1).

    d_A = (1 - 5) / 4 = -1, d_B = 1; sum p d = -0.75 + 0.25 = -0.5; tau_eff = 0.75 * 4 + 0.25 = 3.25; w = 1 + 1.625.
    """
    assert one_round(FedNova(), 1.0, {"A": (5.0, 4, 3), "B": (0.0, 1, 1)}) == pytest.approx(2.625)


def test_a_round_with_momentum_by_hand() -> None:
    """Rho 0.5: A makes 3 steps (4.25), B 1 (1), equal weights, from 0 to 4.25 and to -2.

    d_A = -1, d_B = 2, sum p d = 0.5, tau_eff = 2.625: w = -1.3125.
    """
    assert one_round(FedNova(momentum=0.5), 0.0, {"A": (4.25, 3, 1), "B": (-2.0, 1, 1)}) == pytest.approx(-1.3125)


def test_equal_work_has_the_bits_of_fedavg() -> None:
    context = context_of(("A", "B", "C"), A=5, B=3, C=9)
    start: State = {"w": torch.linspace(-1, 1, 7)}
    updates: dict[str, State] = {site: {"w": torch.randn(7) * index} for index, site in enumerate("ABC", 1)}
    for plugin in (FedNova(), FedNova(momentum=0.9), FedNova(prox=0.1)):
        result = aggregate(plugin, context, start, updates)
        assert digest(result) == digest(aggregate(FedAvg(), context, start, updates))


@pytest.mark.parametrize(("plugin", "momentum"), [(FedNova(), 0.9), (FedNova(momentum=0.5), 0.9)])
def test_another_momentum_than_the_optimizers_is_refused_when_the_config_is_read(
    plugin: FedNova, momentum: float
) -> None:
    sites = small_sites()
    sites.prepare()
    aggregator, _ = prototypes(plugin, [])
    with pytest.raises(ConfigError, match=r"FedNova: momentum must be that of the local optimizer, 0\.9"):
        build(small_task(optimizer=partial(SGD, lr=0.1, momentum=momentum)), sites, [aggregator], 0)


def test_the_right_momentum_and_adam_without_are_accepted() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    FedNova(momentum=0.9).check_optimizer(SGD(parameters, lr=0.1, momentum=0.9))
    FedNova().check_optimizer(Adam(parameters))


@pytest.mark.parametrize("setting", [{"nesterov": True}, {"dampening": 0.5}])
def test_variants_of_momentum_are_refused(setting: dict[str, float]) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, **setting)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"must have no {next(iter(setting))}"):
        FedNova(momentum=0.9).check_optimizer(optimizer)


@pytest.mark.parametrize("arguments", [{"momentum": 1.0}, {"prox": -0.1}])
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FedNova(**arguments).validate()
