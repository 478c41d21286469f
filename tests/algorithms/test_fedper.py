"""FedPer: the head stays, the body is averaged, both train together."""

from __future__ import annotations

import torch
from fedlight_algorithms import FedAvg, FedPer

from fedlight.state import digest, num_bytes
from tests.contracts.harness import Clinic

HEAD = {"network.head.weight", "network.head.bias"}


def test_the_head_stays_and_saves_its_bytes() -> None:
    """A head of 6 weights and a bias in float32: 28 bytes less than FedAvg's."""
    clinic, plain = Clinic.of(FedAvg(), [FedPer()]), Clinic.of(FedAvg())
    update, whole = clinic.fit("A", clinic.broadcast()), plain.fit("A", plain.broadcast())
    assert set(whole.params) - set(update.params) == HEAD == set(clinic.clients["A"].own)
    assert num_bytes(whole.params) - num_bytes(update.params) == 28


def test_a_single_site_trains_as_in_fedavg() -> None:
    """With one site, keeping the head and sending it around are the same."""
    from tests.contracts.harness import TinySites

    kept = Clinic.of(FedAvg(), [FedPer()], TinySites(("A",))).play(2)
    sent = Clinic.of(FedAvg(), data=TinySites(("A",))).play(2).server.params
    assert digest({**kept.server.params, **kept.clients["A"].own}) == digest(sent)


def test_heads_differ_and_bodies_agree() -> None:
    clinic = Clinic.of(FedAvg(), [FedPer(parts=["head", "bottleneck"])]).play(2)
    a, b = clinic.clients["A"].own, clinic.clients["B"].own
    assert {name.split(".")[1] for name in a} == {"head", "bottleneck"}
    assert not any(torch.equal(a[name], b[name]) for name in a)
