"""The models that an institution that took no part is offered, and their ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch
from fedlight_algorithms import FedBN, FedPer, Local
from torch import Tensor

from fedlight import unseen
from fedlight.batch import Batch
from fedlight.client import Client
from fedlight.executors import ClientFactory
from fedlight.federation import Federation
from fedlight.run import Run
from fedlight.state import State, buffers_of, load, parameters_of
from fedlight.tasks import SegmentationTask
from tests.conftest import fedavg, small_sites, small_task

Federate = Callable[..., Federation]


class Constant(SegmentationTask):
    """Says the same of every pixel: its one parameter is the probability of foreground."""

    def __init__(self) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor(0.0))

    def segment(self, batch: Batch) -> Tensor:
        return torch.stack([1 - self.p, self.p]).view(1, 2, 1, 1).detach()


def test_an_ensemble_says_the_plain_mean_of_its_models_probabilities() -> None:
    """Foreground 0.25, 0.75 and 0.875: 0.625, and 0.375 for the background."""
    task, batch = Constant(), cast(Batch, {})
    task.ensemble = [{"p": torch.tensor(value)} for value in (0.25, 0.75, 0.875)]
    assert task.chances(batch).flatten().tolist() == [0.375, 0.625]
    task.ensemble = ()
    load(task, {"p": torch.tensor(0.25)})
    assert task.chances(batch).flatten().tolist() == [0.75, 0.25]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Notes what every model holds when it is scored at the unseen institution, and an ensemble's members."""
    noted: dict[str, Any] = {}
    offered = unseen.offered

    def note(*arguments: Any) -> Iterator[tuple[str, Client]]:
        for model, client in offered(*arguments):
            noted[model] = {**parameters_of(client.module), **buffers_of(client.module)}
            noted["members"] = list(client.module.ensemble)
            yield model, client

    monkeypatch.setattr(unseen, "offered", note)
    return noted


def trained(federation: Federation, **task: Any) -> tuple[ClientFactory, list[State]]:
    """Trains, tests, and returns what the sites kept of the selected round."""
    federation.fit(small_task(**task), small_sites())
    federation.test(small_task(**task), small_sites())
    run = Run.reopen(federation, small_task(**task), small_sites(), None)
    return run.make_client, [run.make_client(site, 1).own for site in run.sites]


def test_silobn_offers_adapted_mean_and_own_statistics(federate: Federate, seen: dict[str, Any]) -> None:
    """Statistics are of the unseen images in "global", of all sites together in "mean", each site's own in "ensemble".

    Parameters are the federation's in all of them. Weights are equal, as all sites have as many cases.
    """
    _, own = trained(federate(rounds=1, buffers="local", select="last"), norm="batch")
    means = [name for name in own[0] if name.endswith("running_mean")]
    assert set(seen) == {"global", "mean", "ensemble", "members"}
    assert len(seen["members"]) == 3
    for name in means:
        variance = name.replace("running_mean", "running_var")
        average = sum(site[name] for site in own) / 3
        spread = sum(site[variance] + (site[name] - average).square() for site in own) / 3
        torch.testing.assert_close(seen["mean"][name], average)
        torch.testing.assert_close(seen["mean"][variance], spread)
        for member, site in zip(seen["members"], own, strict=True):
            assert torch.equal(member[name], site[name])
        assert not any(torch.equal(seen["global"][name], site[name]) for site in own)
    shared = set(seen["global"]) - set(own[0])
    for name in shared:
        assert torch.equal(seen["global"][name], seen["mean"][name])
        assert all(torch.equal(seen["global"][name], member[name]) for member in seen["members"])


@pytest.mark.parametrize(
    ("changes", "models"),
    [
        ({}, ["global"]),
        ({"buffers": "recalibrate"}, ["global"]),
        ({"buffers": "local"}, ["global", "mean", "ensemble"]),
        ({"buffers": "local", "plugins": [FedBN()]}, ["site1", "site2", "site3", "mean", "ensemble"]),
        ({"plugins": [FedPer()]}, ["site1", "site2", "site3", "mean", "ensemble"]),
        ({"aggregator": Local()}, ["site1", "site2", "site3", "ensemble"]),
    ],
    ids=["shared", "recalibrated", "silobn", "fedbn", "fedper", "local"],
)
def test_what_is_offered(federate: Federate, seen: dict[str, Any], changes: dict[str, Any], models: list[str]) -> None:
    _, own = trained(federate(**{"aggregator": fedavg(), "rounds": 1, "select": "last", **changes}), norm="batch")
    assert [name for name in seen if name != "members"] == models
    for member, site in zip(seen["members"], own if "ensemble" in models else (), strict=True):
        assert all(torch.equal(member[name], value) for name, value in site.items()), "members are the sites' models"
