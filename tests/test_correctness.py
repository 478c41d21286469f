"""Proof that the rounds compute what they should: against plain Lightning, centralised training and a hand's sum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from fedlight_algorithms.fedavg import FedAvg
from fedlight_algorithms.fedprox import FedProx
from lightning.pytorch import Trainer
from torch import Tensor, nn

from fedlight import state
from fedlight.batch import Batch
from fedlight.checkpoint import RunFolder
from fedlight.client import Client, LocalTraining
from fedlight.data_format import DataFormat
from fedlight.federation import Federation
from fedlight.randomness import derive, seeded
from fedlight.server import Server
from fedlight.state import State
from fedlight.tasks import SegmentationTask
from fedlight.tasks.federated_module import FederatedModule, Row
from fedlight.trainer import QUIET, quiet_lightning
from fedlight.update import Broadcast, RoundContext, Update
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]


def trained(folder: RunFolder) -> State:
    saved = folder.load()
    assert saved is not None
    params: State = saved["server"]["params"]
    return params


def plain_lightning(rounds: int, keep: bool) -> State:
    """Trains the one site "site1" with nothing but a Trainer, with the batches that the rounds see."""
    data, task = small_sites(num_sites=1, held_out=None), small_task()
    with seeded(0, "initial weights"):
        task.bind(data.format)
        task.configure_model()
    optimizer_state: Any = None
    for number in range(1, rounds + 1):
        task.optimizer_state = optimizer_state
        loader = data.train_loader("site1", seed=derive(0, number, "site1", "data"), steps=2)
        with quiet_lightning():
            trainer = Trainer(max_epochs=1, accelerator="cpu", **QUIET)
            trainer.fit(task, train_dataloaders=loader)
        if keep:
            optimizer_state = trainer.optimizers[0].state_dict()["state"]
    return state.parameters_of(task)


@pytest.mark.parametrize(("rounds", "keep"), [(1, False), (4, False), (4, True)])
def test_one_client_is_plain_lightning_bit_for_bit(federate: Federate, rounds: int, keep: bool) -> None:
    federation = federate(rounds=rounds, optimizer_state="keep" if keep else "reset")
    folder = federation.fit(small_task(), small_sites(num_sites=1, held_out=None))
    assert state.digest(trained(folder)) == state.digest(plain_lightning(rounds, keep))


class Linear(FederatedModule):
    """One weight for each channel, in float64, with a loss that adds over samples."""

    def __init__(self) -> None:
        super().__init__(lambda parameters: torch.optim.SGD(parameters, lr=0.01))

    def bind(self, data: DataFormat) -> None:
        self.channels = data.channels

    def configure_model(self) -> None:
        if "network" not in self._modules:  # a Trainer calls this again
            self.network = nn.Conv2d(self.channels, 1, 1).double()

    @property
    def classes(self) -> tuple[str, ...]:
        return ("background", "foreground")

    def stages(self) -> dict[str, str]:
        return {"input": ""}

    def criterion(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        return (logits[:, 0] - masks).square().mean(dim=(1, 2)).mean()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.double())  # type: ignore[no-any-return]

    def segment(self, batch: Batch) -> Tensor:
        return torch.cat([1 - self(batch["image"]), self(batch["image"])], 1)

    def score(self, batch: Batch) -> list[Row]:
        return [{"case": case, "dice": 0.0} for case in batch["case"]]

    def checkpoint(self) -> dict[str, Any]:
        return {"state_dict": self.state_dict()}


def test_full_batch_sgd_steps_of_sites_of_different_size_are_centralised_training(
    federate: Federate, tmp_path: Path
) -> None:
    """With one full-batch step a round, sum_k n_k/n (w - lr grad_k) = w - lr grad of the pooled mean loss."""
    sizes = [4, 7, 10]
    sites = {"num_sites": 3, "held_out": None, "cases": sizes, "batch_size": 100, "val_fraction": 0.2}
    apart = federate(rounds=5, local_steps=None).fit(Linear(), small_sites(**sites))
    together = federate(rounds=5, local_steps=None, run_folder=str(tmp_path / "pooled")).fit(
        Linear(), small_sites(**sites, pooled=True)
    )
    difference = state.zip_map(torch.sub, trained(apart), trained(together))
    assert max(float(value.abs().max()) for value in difference.values()) < 1e-6
    start = Linear()
    start.bind(DataFormat(("background", "x"), 3, (16, 16)))
    with seeded(0, "initial weights"):
        start.configure_model()
    moved = state.zip_map(torch.sub, trained(apart), state.parameters_of(start))
    assert max(float(value.abs().max()) for value in moved.values()) > 1e-3


def test_pooled_data_get_the_steps_of_all_their_sites(federate: Federate) -> None:
    """Three sites of two steps each: one client of six, which sees as many images as they would."""
    folder = federate(rounds=1, local_steps=2).fit(Linear(), small_sites(num_sites=3, held_out=None, pooled=True))
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["site"], row["steps"]) for row in rows if row["kind"] == "fit"] == [("pooled", 6.0)]


def context(weights: dict[str, float]) -> RoundContext:
    sites = tuple(weights)
    return RoundContext(1, 1, 0, sites, sites, {site: int(weights[site]) for site in sites}, weights)


def test_fedavg_is_the_sample_weighted_mean() -> None:
    """(1 * 2 + 3 * 6) / 4 = 5."""
    server = Server(FedAvg(), [], {"w": torch.zeros(1)}, {})
    updates = [
        (site, Update(site, 1, samples, {"w": torch.tensor([value])}, {}))
        for site, samples, value in (("a", 1, 2.0), ("b", 3, 6.0))
    ]
    server.collect(context({"a": 1.0, "b": 3.0}), updates, min_sites=2)
    assert server.params["w"].item() == 5.0


class Weights(FedAvg):
    """FedAvg that remembers what the sites counted for."""

    seen: ClassVar[dict[str, float]] = {}

    def begin(self, context: RoundContext, params: State) -> None:
        Weights.seen = dict(context.weights)
        super().begin(context, params)


@pytest.mark.parametrize("weighting", ["samples", "uniform"])
def test_sites_count_by_their_cases_or_alike(federate: Federate, weighting: str) -> None:
    data = small_sites(cases=[4, 8, 12, 4])
    federate(rounds=1, aggregator=Weights(), weighting=weighting).fit(small_task(), data)
    cases = {site: float(data.num_samples(site)) for site in data.sites}
    assert len(set(cases.values())) == 3
    assert Weights.seen == (cases if weighting == "samples" else dict.fromkeys(cases, 1.0))


def test_a_run_repeats_bit_for_bit(federate: Federate, tmp_path: Path) -> None:
    digests = {
        state.digest(trained(federate(run_folder=str(tmp_path / name)).fit(small_task(), small_sites())))
        for name in ("first", "second")
    }
    assert len(digests) == 1


def test_another_seed_is_another_run(federate: Federate, tmp_path: Path) -> None:
    digests = {
        state.digest(
            trained(federate(seed=seed, run_folder=str(tmp_path / str(seed))).fit(small_task(), small_sites()))
        )
        for seed in (0, 1)
    }
    assert len(digests) == 2


def test_switching_on_a_null_plugin_changes_no_bit(federate: Federate, tmp_path: Path) -> None:
    plain = federate().fit(small_task(), small_sites())
    with_null = federate(plugins=[FedProx(mu=0.0)], run_folder=str(tmp_path / "null")).fit(small_task(), small_sites())
    assert state.digest(trained(plain)) == state.digest(trained(with_null))


def test_the_learning_rate_follows_global_rounds() -> None:
    """A rate that halves every round is 0.1, 0.05, 0.025 in rounds 1 to 3, whatever a site did before."""
    task = small_task(scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    task.configure_model()
    rates = []
    for number in (1, 2, 3):
        task.global_round = number
        rates.append(task.configure_optimizers().param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.05, 0.025])


def test_kept_optimizer_state_does_not_bring_back_an_old_learning_rate() -> None:
    task = small_task(scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    task.configure_model()
    first = task.configure_optimizers()
    task(torch.randn(2, 3, 16, 16)).sum().backward()
    first.step()
    task.global_round, task.optimizer_state = 2, first.state_dict()["state"]
    second = task.configure_optimizers()
    assert second.param_groups[0]["lr"] == pytest.approx(0.05)
    assert torch.equal(
        second.state_dict()["state"][0]["momentum_buffer"], first.state_dict()["state"][0]["momentum_buffer"]
    )


def test_the_held_out_labels_change_nothing_before_test(federate: Federate, tmp_path: Path) -> None:
    """The held-out institution has other cases (seed of their split aside), the trained bits stay."""
    runs = [
        federate(run_folder=str(tmp_path / name)).fit(small_task(), small_sites(cases=cases))
        for name, cases in (("a", [6, 6, 6, 6]), ("b", [6, 6, 6, 3]))
    ]
    assert len({state.digest(trained(run)) for run in runs}) == 1
    assert len({(run.path / "global.ckpt").stat().st_size for run in runs}) == 1


def test_client_does_not_modify_the_broadcast() -> None:
    data, task = small_sites(), small_task()
    task.bind(data.format)
    task.configure_model()
    params = state.parameters_of(task)
    before = state.digest(params)
    samples = {site: data.num_samples(site) for site in data.sites}
    about = RoundContext(1, 1, 0, data.sites, data.sites, samples, dict.fromkeys(data.sites, 1.0))
    client = Client("site1", task, data, (), LocalTraining(steps=1, trainer={"accelerator": "cpu"}))
    update = client.fit(Broadcast(about, params, {}))
    assert state.digest(params) == before
    assert state.digest(update.params) != before


def test_global_checkpoint_opens_as_a_lightning_module(federate: Federate) -> None:
    folder = federate(select="last").fit(small_task(), small_sites())
    task = SegmentationTask.load_from_checkpoint(folder.selected, map_location="cpu")
    assert state.digest(state.parameters_of(task)) == state.digest(trained(folder))
    assert task.classes == ("background", "disc", "cup")
