"""q-FFL against a hand computation, and the loss that sites measure."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from fedlight_algorithms import QFFL, FedAvg
from fedlight_algorithms.qffl import bound

from fedlight.federation import Federation
from fedlight.preparation import build
from fedlight.randomness import derive
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, context_of, update_of

CONTEXT = context_of(("A", "B"), A=1, B=1)


def one_round(plugin: QFFL, values: dict[str, tuple[float, float]]) -> float:
    """Starts at 1; a site is (where it ends, its loss at the start)."""
    plugin.begin(CONTEXT, {"w": torch.tensor([1.0])})
    for site, (value, loss) in values.items():
        plugin.add(update_of(site, {"w": torch.tensor([value])}, start_loss=loss))
    return plugin.finish()["w"].item()


def test_a_round_with_q_one_by_hand() -> None:
    """Lr 0.5, L = 2. A: from 1 to 3, loss 4: Delta = 4 * 2 * -2 = -16, h = 16 + 8 = 24. B: to 0, loss 1: 2, h = 4 + 2.

    w = 1 + 14 / 30.
    """
    assert one_round(QFFL(q=1.0, lr=0.5), {"A": (3.0, 4.0), "B": (0.0, 1.0)}) == pytest.approx(1 + 14 / 30)


def test_a_round_with_q_two_by_hand() -> None:
    """Sites as above. A: Delta = 16 * 2 * -2 = -64, h = 2 * 4 * 16 + 2 * 16 = 160. B: Delta = 2, h = 2 * 4 + 2 = 10."""
    assert one_round(QFFL(q=2.0, lr=0.5), {"A": (3.0, 4.0), "B": (0.0, 1.0)}) == pytest.approx(1 + 62 / 170)


def test_a_loss_of_zero_is_no_division() -> None:
    assert one_round(QFFL(q=0.5, lr=0.5), {"A": (1.0, 0.0), "B": (1.0, 0.0)}) == 1


def test_bound_without_fairness_is_one() -> None:
    assert bound(loss=3.0, squared_distance=5.0, q=0.0, lr=0.1) == 1


def test_sites_measure_the_loss_of_the_model_that_they_were_sent() -> None:
    """All sites of the harness train on two batches of three cases: the mean over all six."""
    clinic = Clinic.of(QFFL()).play(1)
    client = clinic.clients["B"]
    broadcast = clinic.broadcast()
    reported = clinic.fit("B", broadcast).metrics["start_loss"]
    client.receive(broadcast)
    losses = [
        client.module.criterion(client.module(batch["image"]), batch["mask"], batch["valid"]).item()
        for batch in client.data.train_loader("B", seed=0)
    ]
    assert reported == pytest.approx(sum(losses) / 2)


def test_measuring_does_not_shift_the_training() -> None:
    clinics = [Clinic.of(plugin) for plugin in (QFFL(), FedAvg())]
    measured, plain = (clinic.fit("A", clinic.broadcast()) for clinic in clinics)
    assert set(measured.metrics) - set(plain.metrics) == {"start_loss"}
    assert all(torch.equal(measured.params[name], value) for name, value in plain.params.items())


def test_a_real_federation_measures_over_augmented_training_batches(federate: Callable[..., Federation]) -> None:
    """The recorded loss of round 1 is that of the initial model over one epoch with the seed named for it."""
    federation, sites = federate(aggregator=QFFL(), rounds=1), small_sites()
    folder = federation.fit(small_task(), sites)
    initial = small_task()
    build(initial, sites, [], seed=0)
    expected = initial.mean_loss(sites.train_loader("site1", seed=derive(0, 1, "site1", "start loss")))
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    reported = [row["start_loss"] for row in rows if row.get("site") == "site1" and "start_loss" in row]
    assert reported == [pytest.approx(expected)]


@pytest.mark.parametrize("arguments", [{"q": -1.0}, {"lr": 0.0}])
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        QFFL(**arguments).validate()
