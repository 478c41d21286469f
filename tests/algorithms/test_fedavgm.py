"""FedAvgM against a hand computation, round by round."""

from __future__ import annotations

import pytest
import torch
from fedlight_algorithms import FedAvg, FedAvgM

from fedlight.state import State, digest
from tests.contracts.harness import aggregate, context_of

CONTEXT = context_of(("A", "B"), A=1, B=1)


def rounds(aggregator: FedAvgM, deltas: list[tuple[float, float]]) -> list[float]:
    """Starts at 0; in every round A and B return the global value plus their deltas."""
    value, values = torch.zeros(1), []
    for a, b in deltas:
        value = aggregate(aggregator, CONTEXT, {"w": value}, {"A": {"w": value + a}, "B": {"w": value + b}})["w"]
        values.append(value.item())
    return values


def test_momentum_carries_steps_over() -> None:
    """Momentum 0.5, mean deltas 1, 1, 0: v = 1, 1.5, 0.75 and w = 1, 2.5, 3.25. The first step counts in full."""
    assert rounds(FedAvgM(momentum=0.5), [(0.0, 2.0), (1.0, 1.0), (1.0, -1.0)]) == [1.0, 2.5, 3.25]


def test_server_lr_scales_the_step_but_not_the_velocity() -> None:
    """Momentum 0.5, server_lr 0.5, mean delta 1 twice: v = 1, 1.5 and w = 0.5, 0.5 + 0.75 = 1.25."""
    assert rounds(FedAvgM(momentum=0.5, server_lr=0.5), [(1.0, 1.0), (1.0, 1.0)]) == [0.5, 1.25]


def test_null_setting_has_the_bits_of_fedavg_where_adding_a_delta_would_not() -> None:
    """In float32 the mean 1e-8 minus 1 is -1, and 1 + (-1) is 0: the delta cannot give the mean back, the mean can."""
    start: State = {"w": torch.tensor([1.0])}
    updates = {"A": {"w": torch.tensor([1e-8])}, "B": {"w": torch.tensor([1e-8])}}
    null = aggregate(FedAvgM(momentum=0.0, server_lr=1.0), CONTEXT, start, updates)
    assert digest(null) == digest(aggregate(FedAvg(), CONTEXT, start, updates))
    assert null["w"].item() == pytest.approx(1e-8)


@pytest.mark.parametrize(("arguments", "rule"), [({"momentum": 1.0}, "momentum"), ({"server_lr": 0.0}, "server_lr")])
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=f"{rule} must be .* got {next(iter(arguments.values()))}"):
        FedAvgM(**arguments).validate()
