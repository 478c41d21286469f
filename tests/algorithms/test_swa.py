"""SWA and EMA: averages by hand, and who sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedlight_algorithms import EMA, SWA, FedAvg

from fedlight.federation import Federation
from fedlight.state import State, digest
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, context_of


def deployed(plugin: Any, values: list[float]) -> list[float]:
    """Plays rounds whose global models are given."""
    seen = []
    for number, value in enumerate(values, 1):
        plugin.begin(context_of(round=number, rounds=len(values)), {})
        seen.append(plugin.deploy({"w": torch.tensor(value)})["w"].item())
    return seen


def test_swa_averages_the_last_rounds() -> None:
    """Start 0.5 of 4 rounds: the models of rounds 2, 3, 4 enter."""
    assert deployed(SWA(start=0.5), [8.0, 1.0, 3.0, 5.0]) == [8.0, 1.0, 2.0, 3.0]


def test_swa_takes_one_model_in_every_so_many_rounds() -> None:
    """Every 2 from round 2 on: 1, then 1 and 5."""
    assert deployed(SWA(start=0.5, every=2), [8.0, 1.0, 3.0, 5.0]) == [8.0, 1.0, 1.0, 3.0]


def test_ema_by_hand() -> None:
    """Decay 0.6 is reached in round 3, where (t - 1) / t exceeds it: 4; (4 + 8) / 2 = 6; 0.6 * 6 + 0.4 * 1 = 4."""
    assert deployed(EMA(decay=0.6), [4.0, 8.0, 1.0]) == pytest.approx([4.0, 6.0, 4.0])


def test_without_decay_limit_the_average_is_plain() -> None:
    assert deployed(EMA(decay=0.999), [1.0, 2.0, 6.0, 7.0]) == pytest.approx([1.0, 1.5, 3.0, 4.0])


def test_a_model_that_does_not_change_is_its_own_average() -> None:
    for plugin in (SWA(start=0.0), EMA()):
        plugin.begin(context_of(), {})
        params: State = {"w": torch.tensor([0.1, 1e-8, 3e7])}
        for _ in range(5):
            assert digest(plugin.deploy(params)) == digest(params)


@pytest.mark.parametrize("plugin", [SWA(start=0.0), EMA()])
def test_sites_go_on_from_the_global_model(plugin: Any) -> None:
    averaged, plain = Clinic.of(FedAvg(), [plugin]).play(3).server, Clinic.of(FedAvg()).play(3).server
    assert digest(averaged.params) == digest(plain.params) == digest(plain.deployed)
    assert digest(averaged.deployed) != digest(plain.deployed)
    context = context_of(round=4)
    assert digest(averaged.broadcast(context).params) == digest(plain.params)
    assert digest(averaged.broadcast(context, deployed=True).params) == digest(averaged.deployed)


def test_the_average_is_evaluated_and_kept(federate: Callable[..., Federation]) -> None:
    """Two rounds of SWA from the start: last.ckpt is the mean of both rounds' models, and is scored by `validate`."""
    folders = []
    for rounds in (1, 2):
        plain = federate(rounds=rounds)
        plain.run_folder = plain.run_folder.with_name(f"plain{rounds}")
        folders.append(plain.fit(small_task(), small_sites()))
    federation = federate(rounds=2, plugins=[SWA(start=0.0)], select="last")
    averaged = federation.fit(small_task(), small_sites())
    first, second, mean = (torch.load(folder.last, weights_only=True)["state_dict"] for folder in (*folders, averaged))
    for name, value in mean.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2, rtol=1e-6, atol=1e-8)
    recorded = averaged.load()
    assert recorded is not None
    scores = {row["site"]: row["metrics"]["dice"] for row in recorded["evaluations"]}
    again = federation.validate(small_task(), small_sites(), str(averaged.path))
    assert {evaluation.site: evaluation.metrics["dice"] for evaluation in again} == scores


@pytest.mark.parametrize("plugin", [SWA(start=1.5), SWA(every=0), EMA(decay=1.0)])
def test_impossible_arguments_are_refused(plugin: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        plugin.validate()
