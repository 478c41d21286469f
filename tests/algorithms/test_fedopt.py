"""FedAdam, FedYogi and FedAdagrad against hand computations, round by round."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAdagrad, FedAdam, FedYogi

from fedlight.plugins import Aggregator
from fedlight.state import num_bytes
from tests.contracts.harness import aggregate, context_of

CONTEXT = context_of(("A", "B"), A=3, B=1)


def rounds(aggregator: Aggregator, deltas: list[float]) -> list[float]:
    """Starts at 0; in every round A (weight 3) moves by twice the delta and B by -2 deltas: the mean is the delta."""
    value, values = torch.zeros(1), []
    for d in deltas:
        updates = {"A": {"w": value + 2 * d}, "B": {"w": value - 2 * d}}
        value = aggregate(aggregator, CONTEXT, {"w": value}, updates)["w"]
        values.append(value.item())
    return values


def test_adam_by_hand() -> None:
    """Beta 0.5 and 0.75, tau 1, v_0 = 0, server_lr 1, deltas 2, 0.

    Round 1: m = 1, v = 0.25 * 4 = 1, step 1 / (1 + 1) = 0.5. Round 2: m = 0.5, v = 0.75, step 0.5 / (0.8660254 + 1).
    """
    plugin = FedAdam(server_lr=1.0, beta1=0.5, beta2=0.75, tau=1.0, v_init=0.0)
    assert rounds(plugin, [2.0, 0.0]) == pytest.approx([0.5, 0.5 + 0.5 / 1.8660254])


def test_adam_with_bias_correction_by_hand() -> None:
    """As above with rates sqrt(1 - 0.75) / (1 - 0.5) = 1 and sqrt(1 - 0.5625) / (1 - 0.25) = 0.8819171."""
    plugin = FedAdam(server_lr=1.0, beta1=0.5, beta2=0.75, tau=1.0, v_init=0.0, bias_correction=True)
    assert rounds(plugin, [2.0, 0.0]) == pytest.approx([0.5, 0.5 + 0.8819171 * 0.5 / 1.8660254])


def test_second_moment_starts_from_tau_squared() -> None:
    """Tau 3, beta2 0.5, delta 1: v = 0.5 * 9 + 0.5 = 5, m = 0.1; server_lr 2 makes 0.2 / (sqrt 5 + 3)."""
    plugin = FedAdam(server_lr=2.0, beta1=0.9, beta2=0.5, tau=3.0)
    assert rounds(plugin, [1.0]) == pytest.approx([0.2 / (5**0.5 + 3)])


def test_yogi_by_hand() -> None:
    """Beta 0 and 0.75, tau 1, v_0 = 9, server_lr 1, deltas 2, 4: v falls by 0.25 * 4 to 8, rises by 0.25 * 16 to 12."""
    plugin = FedYogi(server_lr=1.0, beta1=0.0, beta2=0.75, tau=1.0, v_init=9.0)
    first = 2 / (8**0.5 + 1)
    assert rounds(plugin, [2.0, 4.0]) == pytest.approx([first, first + 4 / (12**0.5 + 1)])


def test_adagrad_by_hand() -> None:
    """Tau 1, v_0 = 5, server_lr 1, deltas 2, 4: v = 9, 25 and steps 2 / 4, 4 / 6."""
    assert rounds(FedAdagrad(server_lr=1.0, tau=1.0, v_init=5.0), [2.0, 4.0]) == pytest.approx([0.5, 0.5 + 4 / 6])


def test_adagrad_with_momentum_by_hand() -> None:
    """As above with beta1 0.5: m = 1, 2.5 and steps 1 / 4, 2.5 / 6."""
    plugin = FedAdagrad(server_lr=1.0, beta1=0.5, tau=1.0, v_init=5.0)
    assert rounds(plugin, [2.0, 4.0]) == pytest.approx([0.25, 0.25 + 2.5 / 6])


@pytest.mark.parametrize("cls", [FedAdam, FedYogi, FedAdagrad])
def test_the_server_keeps_two_models(cls: Any) -> None:
    """One float32 parameter: 4 bytes each."""
    plugin = cls()
    rounds(plugin, [1.0])
    state = plugin.state_dict()
    assert (num_bytes(state["m"]), num_bytes(state["v"]), state["rounds"]) == (4, 4, 1)


@pytest.mark.parametrize(
    "arguments", [{"beta1": 1.0}, {"beta2": -0.1}, {"tau": 0.0}, {"server_lr": 0.0}, {"v_init": -1.0}]
)
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, Any]) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name} must .* got {value}"):
        FedAdam(**arguments).validate()
