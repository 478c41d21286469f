"""FedBN: what stays, what travels, and how an unseen institution is scored."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from fedlight_algorithms import FedAvg, FedBN

from fedlight.federation import Federation
from fedlight.preparation import ConfigError
from fedlight.state import parameters_of
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic

NORM = {"network.encoder1.1.weight", "network.encoder1.1.bias"}


def test_norm_layers_never_leave_a_site() -> None:
    clinic = Clinic.of(FedAvg(), [FedBN()])
    update = clinic.fit("A", clinic.broadcast())
    assert not NORM & set(update.params)
    assert set(clinic.clients["A"].own) == NORM
    assert not NORM & set(clinic.broadcast().params)


def test_a_site_goes_on_with_its_own_layers_and_the_federation_with_the_mean_of_the_rest() -> None:
    clinic = Clinic.of(FedAvg(), [FedBN()]).play(2)
    own = {site: client.own["network.encoder1.1.weight"] for site, client in clinic.clients.items()}
    assert not torch.equal(own["A"], own["B"])
    client = clinic.clients["A"]
    client.receive(clinic.broadcast())
    loaded = parameters_of(client.module)
    assert torch.equal(loaded["network.encoder1.1.weight"], own["A"])
    assert torch.equal(loaded["network.head.weight"], clinic.server.params["network.head.weight"])


def test_parts_of_the_network_can_be_chosen() -> None:
    params = parameters_of(small_task_built())
    assert set(FedBN(parts=["encoder"]).private(params)) < set(FedBN().private(params))
    assert all(params[name].ndim == 1 for name in FedBN().private(params))


def small_task_built() -> torch.nn.Module:
    task = small_task()
    task.configure_model()
    return task


def test_an_unseen_institution_is_scored_with_every_sites_layers_and_their_mean(
    federate: Callable[..., Federation],
) -> None:
    federation = federate(plugins=[FedBN()], rounds=2, buffers="local")
    folder = federation.fit(small_task(norm="batch"), small_sites())
    federation.test(small_task(norm="batch"), small_sites())
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    models = [row["model"] for row in rows if row.get("split") == "held-out"]
    assert models == ["site1", "site2", "site3", "mean", "ensemble"]


def test_a_network_without_such_layers_is_refused(federate: Callable[..., Federation]) -> None:
    with pytest.raises(ConfigError, match="FedBN: parts must be found in the names of parameters, got nowhere"):
        federate(plugins=[FedBN(parts=["nowhere"])]).fit(small_task(), small_sites())
    with pytest.raises(ValueError, match="must have normalisation layers"):
        FedBN().private({"conv.weight": torch.zeros(1, 1, 1, 1)})
