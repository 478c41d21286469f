"""A federation small enough to run every plugin through whole rounds in a fraction of a second."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fedlight.batch import Batch
from fedlight.channel import Compression
from fedlight.client import Client, LocalTraining
from fedlight.data.federated import FederatedDataModule, Stage
from fedlight.data_format import DataFormat
from fedlight.plugins import Aggregator, ClientPlugin, discovery
from fedlight.preparation import prototypes
from fedlight.randomness import generator, seeded
from fedlight.server import Server
from fedlight.state import State, buffers_of, parameters_of
from fedlight.tasks.federated_module import FederatedModule, Row
from fedlight.update import Broadcast, Evaluation, RoundContext, Update

SIZE = 16
SITES = ("A", "B", "C")


class TinyNetwork(nn.Module):
    """Two encoder stages, a bottleneck and a decoder, some 500 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU())
        self.encoder2 = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, stride=2), nn.ReLU())
        self.bottleneck = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
        self.decoder = nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.decoder(self.bottleneck(self.encoder2(self.encoder1(images)))))
        return logits


class TinyTask(FederatedModule):
    def __init__(self) -> None:
        super().__init__(lambda parameters: torch.optim.SGD(parameters, lr=0.1))

    def configure_model(self) -> None:
        if not hasattr(self, "network"):
            self.network = TinyNetwork()

    @property
    def classes(self) -> tuple[str, ...]:
        return ("background", "square")

    def bind(self, data: DataFormat) -> None: ...

    def checkpoint(self) -> dict[str, Any]:
        raise NotImplementedError

    def stages(self) -> dict[str, str]:
        return {
            "input": "",
            "logits": "head",
            **{name: name for name in ("encoder1", "encoder2", "bottleneck", "decoder")},
        }

    def criterion(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(logits[:, 0].float(), masks.float(), reduction="none")
        return (each * valid).sum() / valid.sum().clamp_min(1)

    def segment(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def score(self, batch: Batch) -> list[Row]:
        """Dice of probabilities, which any step of training changes."""
        foreground = self(batch["image"])[:, 0].sigmoid()
        both = (foreground * batch["mask"]).flatten(1).sum(1)
        dice = 2 * both / (foreground + batch["mask"]).flatten(1).sum(1)
        return [{"case": case, "dice": float(value)} for case, value in zip(batch["case"], dice, strict=True)]

    def log(self, *args: Any, **kwargs: Any) -> None:
        if self._trainer is not None:
            super().log(*args, **kwargs)


class TinySites(FederatedDataModule):
    """Sites whose images differ in mean, contrast and smoothness."""

    def __init__(self, sites: Sequence[str] = SITES, cases: int = 6) -> None:
        super().__init__()
        self._sites = tuple(sites)
        self.cases = cases

    def prepare(self) -> None: ...

    @property
    def sites(self) -> tuple[str, ...]:
        return self._sites

    @property
    def held_out_sites(self) -> tuple[str, ...]:
        return ()

    def institutions(self, site: str) -> tuple[str, ...]:
        return (site,)

    @property
    def format(self) -> DataFormat:
        return DataFormat(("background", "square"), 3, (SIZE, SIZE))

    def num_samples(self, site: str) -> int:
        return self.cases + ord(site[0]) % 3

    def train_loader(self, site: str, *, seed: int, steps: int | None = None) -> DataLoader[Batch]:
        batch = images_of(site, self.cases)
        batches = [pick(batch, range(begin, min(begin + 3, self.cases))) for begin in range(0, self.cases, 3)]
        return DataLoader(batches, batch_size=None, shuffle=False)  # type: ignore[arg-type]

    def loader(self, institution: str, stage: Stage) -> DataLoader[Batch]:
        return DataLoader([images_of(institution, 2)], batch_size=None, shuffle=False)  # type: ignore[arg-type]


def images_of(site: str, cases: int = 4, size: int = SIZE) -> Batch:
    """Returns a batch of a site: bright squares on a textured ground, a corner of which is not valid."""
    draw = generator(0, site)
    style = ord(site[0]) - ord("A")
    ground = 0.2 + 0.2 * style + 0.1 * (style + 1) * torch.randn(cases, 3, size, size, generator=draw)
    mask = torch.zeros(cases, size, size, dtype=torch.int64)
    for case in range(cases):
        top, left = torch.randint(size // 2, (2,), generator=draw).tolist()
        mask[case, top : top + size // 3, left : left + size // 3] = 1
    valid = torch.ones(cases, size, size, dtype=torch.bool)
    valid[:, : size // 4, : size // 4] = False
    return {
        "image": torch.where(valid[:, None], ground + 0.5 * mask[:, None], 0.0),
        "mask": mask,
        "valid": valid,
        "case": [f"{site}{case}" for case in range(cases)],
        "spacing": torch.ones(cases, 2),
        "size": torch.tensor([[size, size]] * cases),
    }


def pick(batch: Batch, rows: Sequence[int]) -> Batch:
    """Returns some cases of a batch."""
    index = list(rows)
    return {
        "image": batch["image"][index],
        "mask": batch["mask"][index],
        "valid": batch["valid"][index],
        "case": [batch["case"][row] for row in index],
        "spacing": batch["spacing"][index],
        "size": batch["size"][index],
    }


def context_of(sites: Sequence[str] = SITES, round: int = 1, rounds: int = 4, **weights: float) -> RoundContext:
    """Returns a round in which every site takes part; weights are 1, 2, ... unless given."""
    counts = {site: index + 1 for index, site in enumerate(sites)}
    return RoundContext(round, rounds, 0, tuple(sites), tuple(sites), counts, {**counts, **weights})


@dataclass
class Clinic:
    """A server and its clients, without run folder or tracking; evaluated only if the aggregator measures something."""

    server: Server
    clients: dict[str, Client]
    rounds: int
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        aggregator: Aggregator,
        plugins: Sequence[ClientPlugin] = (),
        data: TinySites | None = None,
        rounds: int = 4,
        compression: Compression | None = None,
    ) -> Clinic:
        data = data or TinySites()
        half, servers = prototypes(aggregator, plugins)
        module = task()
        compression = compression or Compression()
        server = Server(half, servers, parameters_of(module), buffers_of(module), compression)
        local = LocalTraining(measures=half.measures, compression=compression)
        clients = {site: Client(site, task(), data, prototypes(aggregator, plugins)[1], local) for site in data.sites}
        return cls(server, clients, rounds)

    def broadcast(self) -> Broadcast:
        context = context_of(tuple(self.clients), self.server.round + 1, self.rounds)
        return self.server.broadcast(replace(context, evaluations=dict(self.evaluations)))

    def play(self, rounds: int) -> Clinic:
        for _ in range(rounds):
            broadcast = self.broadcast()
            updates = ((site, self.server.opened(site, self.fit(site, broadcast), broadcast)) for site in self.clients)
            # the server knows the scores of the sites, which the broadcast leaves out
            context = replace(broadcast.context, evaluations=dict(self.evaluations))
            self.server.collect(context, updates, min_sites=len(self.clients))
            if self.server.aggregator.measures:
                self.evaluate(self.server.broadcast(broadcast.context, deployed=True))
        return self

    def evaluate(self, broadcast: Broadcast) -> None:
        for client in self.clients.values():
            with quiet():
                self.evaluations |= {evaluation.site: evaluation for evaluation in client.evaluate(broadcast)}

    def fit(self, site: str, broadcast: Broadcast) -> Update:
        with quiet():
            return self.clients[site].fit(broadcast)

    def state_dict(self) -> dict[str, Any]:
        clients = {site: client.state_dict() for site, client in self.clients.items()}
        scores = {site: dict(evaluation.metrics) for site, evaluation in self.evaluations.items()}
        return {"server": self.server.state_dict(), "clients": clients, "scores": scores}

    def load_state_dict(self, saved: dict[str, Any]) -> Clinic:
        self.server.load_state_dict(saved["server"])
        for site, client in self.clients.items():
            client.load_state_dict(saved["clients"][site])
        done = self.server.round
        self.evaluations = {site: Evaluation(site, done, 2, scores) for site, scores in saved["scores"].items()}
        return self


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # evaluation is a phase of its own, so a fit has none
        warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no `val_dataloader`")
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning 2.6 on torch 2.15
        yield


def task() -> TinyTask:
    """Returns the task with its initial weights."""
    module = TinyTask()
    with seeded(0, "initial weights"):
        module.configure_model()
    return module


MEASURED = {"steps": 2.0, "train_loss": 0.7, "start_loss": 0.7, "local/dice": 0.5}


def update_of(site: str, params: State, num_samples: int = 1, **metrics: float) -> Update:
    return Update(site, 1, num_samples, params, {}, {**MEASURED, **metrics})


def aggregate(aggregator: Aggregator, context: RoundContext, start: State, updates: dict[str, State]) -> State:
    """Plays one round of an aggregator."""
    aggregator.begin(context, start)
    for site, params in updates.items():
        aggregator.add(update_of(site, params))
    return aggregator.finish()


@contextmanager
def second_round(plugin: ClientPlugin, site: str = "A", seed: int = 0) -> Iterator[TinyTask]:
    """Puts a plugin into the middle of a round for which all sites have shared something before."""
    from fedlight_algorithms import FedAvg

    clinic = Clinic.of(FedAvg(), [plugin]).play(1)
    broadcast = clinic.broadcast()
    module = task()
    plugin.instance_id = clinic.server.plugins[0].instance_id
    plugin.generator = torch.Generator().manual_seed(seed)
    module.plugins = [plugin]
    plugin.on_round_start(site, module, broadcast)
    module.on_fit_start()
    try:
        yield module
    finally:
        module.release()


@contextmanager
def own_registry() -> Iterator[None]:
    """Closes the door behind a block: what it brought in is imported, but not registered any more."""
    origins = dict(discovery._origins)
    variable = os.environ.pop(discovery.VARIABLE, None)
    try:
        yield
    finally:
        discovery._origins.clear()
        discovery._origins.update(origins)
        os.environ.pop(discovery.VARIABLE, None)
        if variable is not None:
            os.environ[discovery.VARIABLE] = variable
