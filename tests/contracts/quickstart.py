"""One round of the quickstart's network at four sites, as short as it can be: what crosses, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import yaml

from fedlight.client import Client, LocalTraining
from fedlight.data import SyntheticSites
from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.discovery import find
from fedlight.preparation import build, prototypes
from fedlight.server import Server
from fedlight.state import buffers_of, num_bytes, parameters_of
from fedlight.tasks import SegmentationTask
from fedlight.update import RoundContext, Shared, Update
from tests.contracts.harness import quiet


class Traffic(NamedTuple):
    """Bytes of tensors.

    Attributes:
        up: What plugins share in the first round, of one site.
        down: What a site is sent of it in the second round, with four sites.
        model: Parameters and running statistics in an update.
    """

    up: int
    down: int
    model: int


@cache
def sites() -> SyntheticSites:
    """Four sites with colour images of 64 pixels in three classes, and enough of them for every ``min_images``."""
    data = SyntheticSites(num_sites=5, held_out="site5", cases=8, image_size=64, anatomy="fundus", batch_size=5)
    data.prepare()
    return data


@cache
def default_network() -> SegmentationTask:
    """The network of the quickstart."""
    module = SegmentationTask(encoder="plain-16")
    build(module, sites(), [], seed=0)
    return module


def traffic(
    aggregator: Aggregator,
    plugins: Sequence[ClientPlugin] = (),
    model: Mapping[str, Any] | None = None,
    local: LocalTraining | None = None,
) -> Traffic:
    """Plays one round of one step and weighs what crosses."""
    data = sites()
    half, servers = prototypes(aggregator, plugins)
    settings = {"encoder": "plain-16", "optimizer": partial(torch.optim.SGD, lr=0.01), **(model or {})}
    module = SegmentationTask(**settings)
    build(module, data, [half, *servers], seed=0)
    server = Server(half, servers, parameters_of(module), buffers_of(module))
    local = local or LocalTraining(steps=1, measures=half.measures)
    broadcast = server.broadcast(context_of(data, 1))
    updates: dict[str, Update] = {}
    for site in data.sites:
        with quiet():
            updates[site] = Client(site, module, data, prototypes(aggregator, plugins)[1], local).fit(broadcast)
    server.collect(broadcast.context, updates.items(), min_sites=len(updates))
    first = updates[data.sites[0]]
    down = server.broadcast(context_of(data, 2)).shared
    return Traffic(weight(first.shared), weight(down), num_bytes(first.params) + num_bytes(first.buffers))


def traffic_of_recipe(config: str) -> Traffic:
    """Plays the round that a config asks for, as far as it is about network, plugins and running statistics."""
    setting = yaml.safe_load(config)
    federation = setting.get("federation", {})
    aggregator = made(federation.get("aggregator", "FedAvg"))
    plugins = [made(entry) for entry in federation.get("plugins+", ())]
    model = setting.get("model", {}).get("init_args", {})
    local = LocalTraining(steps=1, buffers=federation.get("buffers", "average"), measures=aggregator.measures)
    return traffic(aggregator, plugins, {name: value for name, value in model.items() if name == "norm"}, local)


def made(entry: str | Mapping[str, Any]) -> Any:
    """Makes a plugin from its name, or from name and arguments."""
    if isinstance(entry, str):
        return find(entry).cls()
    return find(entry["class_path"]).cls(**entry.get("init_args", {}))


def context_of(data: SyntheticSites, number: int) -> RoundContext:
    samples = {site: data.num_samples(site) for site in data.sites}
    weights = {site: float(count) for site, count in samples.items()}
    return RoundContext(number, 20, 0, data.sites, data.sites, samples, weights)


def weight(shared: Shared) -> int:
    return sum(num_bytes(dict(part)) for part in shared.values())
