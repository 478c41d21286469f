"""Ditto: the personal step by hand, the two models, and which of them is scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedlight_algorithms import Ditto, FedAvg, FedSAM
from torch import Tensor

from fedlight.batch import Step, View
from fedlight.federation import Federation
from fedlight.state import State, digest, parameters_of
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, images_of


def quadratic(images: Tensor, params: State | None) -> View:
    assert params is not None
    return View(params["v"], {})


def test_a_personal_step_follows_loss_and_tie() -> None:
    """F = (v - 3)^2 / 2, w_t = 0, lam 0.5, steps of 0.1: from v = 0 the gradient is -3, so v = 0.3.

    Then -2.7 + 0.5 * 0.3 = -2.55, so v = 0.555.
    """
    plugin = Ditto(lam=0.5)
    plugin._params, plugin._round, plugin._buffers = {"v": torch.zeros(1)}, {"v": torch.zeros(1)}, {}
    plugin._optimizer, plugin._rate = None, None
    plugin._make_optimizer = lambda params: torch.optim.SGD(params, lr=0.1)
    batch = images_of("A")

    def criterion(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        return (logits - 3).square().sum() / 2

    step = Step(
        batch["image"], batch["mask"], batch["valid"], batch["image"], {}, torch.zeros(()), criterion, quadratic
    )
    found = []
    for _ in range(2):
        plugin.transform_batch(batch)
        assert plugin.penalty(step) is None
        found.append(plugin._params["v"].item())
    assert found == pytest.approx([0.3, 0.555])


def test_without_a_tie_the_personal_model_is_the_sites_alone() -> None:
    """Three rounds with lam 0 leave site B with what a federation of B alone has; SGD has no state to lose."""
    from tests.contracts.harness import TinySites

    (plugin,) = Clinic.of(FedAvg(), [Ditto(lam=0.0)]).play(3).clients["B"].plugins
    alone = Clinic.of(FedAvg(), data=TinySites(("B",))).play(3).server.params
    for name, value in plugin.state_dict()["params"].items():
        torch.testing.assert_close(value, alone[name])


def test_a_strong_tie_keeps_the_personal_model_near_the_global_one() -> None:
    """Steps of 0.1 with lam 5 keep half of the way from w_t in every step; lam 0 keeps all of it."""

    def away(lam: float) -> float:
        clinic = Clinic.of(FedAvg(), [Ditto(lam=lam)])
        start = clinic.server.params
        clinic.fit("A", clinic.broadcast())
        personal = clinic.clients["A"].plugins[0].personal()
        return float(sum((personal[name] - w).square().sum() for name, w in start.items()))

    assert 0 < away(5.0) < 0.8 * away(0.0)


def test_a_repeated_pass_makes_no_second_personal_step() -> None:
    def personal(*others: Any) -> str:
        clinic = Clinic.of(FedAvg(), [*others, Ditto()])
        clinic.fit("A", clinic.broadcast())
        return digest(dict(clinic.clients["A"].plugins[-1].personal()))

    assert personal() == personal(FedSAM(rho=0.5))


@pytest.mark.parametrize("evaluate", ["personal", "global"])
def test_the_site_is_scored_with_the_model_that_was_asked_for(
    federate: Callable[..., Federation], evaluate: Any
) -> None:
    """A tie so strong that personal models break down shows in the sites' scores, and only where they are asked."""
    plugin = Ditto(lam=1e6, evaluate=evaluate)
    federation = federate(plugins=[plugin], rounds=2, select="last")
    folder = federation.fit(small_task(), small_sites())
    scores = federation.test(small_task(), small_sites())
    plain = federate(rounds=2, select="last", run_folder=str(folder.path) + "-plain")
    plain.fit(small_task(), small_sites())
    expected = plain.test(small_task(), small_sites())
    same = [a.metrics == b.metrics for a, b in zip(scores, expected, strict=True)]
    assert same[-1], "the unseen institution gets the global model"
    assert all(same[:-1]) == (evaluate == "global")
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows if row.get("split") == "held-out"] == ["global"]


def test_negative_lam_is_refused() -> None:
    with pytest.raises(ValueError, match="lam must not be negative, got -1"):
        Ditto(lam=-1).validate()


def test_the_personal_model_has_the_layout_of_the_network() -> None:
    clinic = Clinic.of(FedAvg(), [Ditto()])
    clinic.fit("A", clinic.broadcast())
    own = clinic.clients["A"].plugins[0].personal()
    assert {name: p.shape for name, p in own.items()} == {
        name: p.shape for name, p in parameters_of(clinic.clients["A"].module).items()
    }
