"""Local: K models, no aggregation."""

from __future__ import annotations

from fedlight_algorithms import FedAvg, Local

from fedlight.state import digest, parameters_of
from tests.contracts.harness import Clinic, TinySites, task


def test_no_parameter_travels() -> None:
    clinic = Clinic.of(Local())
    assert clinic.broadcast().params == {}
    assert clinic.fit("A", clinic.broadcast()).params == {}


def test_the_server_keeps_the_initial_weights() -> None:
    assert digest(Clinic.of(Local()).play(2).server.params) == digest(parameters_of(task()))


def test_a_site_trains_as_if_it_were_alone() -> None:
    """Two rounds of three sites give site B the model that a federation of B alone has."""
    together = Clinic.of(Local()).play(2).clients["B"]
    alone = Clinic.of(FedAvg(), data=TinySites(("B",))).play(2)
    assert digest(parameters_of(together.module)) == digest(alone.server.params)


def test_sites_end_with_models_of_their_own() -> None:
    clients = Clinic.of(Local()).play(1).clients.values()
    assert len({digest(parameters_of(client.module)) for client in clients}) == 3
