"""One round of the quickstart's network at four sites, as short as it can be: what crosses, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import torch

from fedlight.client import Client, LocalTraining
from fedlight.data import SyntheticSites
from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.preparation import build, prototypes
from fedlight.server import Server
from fedlight.state import buffers_of, num_bytes, parameters_of
from fedlight.tasks import SegmentationTask
from fedlight.update import Broadcast, RoundContext, Update
from tests.contracts.harness import quiet

STEPS = 2
"""FedRep trains the head in one of them and the body in the other."""


class Traffic(NamedTuple):
    """Bytes of tensors that a site sends in the first round and is sent in the second.

    Attributes:
        up: What plugins share.
        down: What plugins get, with four sites.
        model: Parameters and running statistics in the update.
    """

    up: int
    down: int
    model: int


@cache
def sites() -> SyntheticSites:
    """Four sites with colour images of 64 pixels and two classes beside the background."""
    data = SyntheticSites(num_sites=5, held_out="site5", cases=8, image_size=64, anatomy="fundus", batch_size=5)
    data.prepare()
    return data


def traffic(aggregator: Aggregator, plugins: Sequence[ClientPlugin] = ()) -> Traffic:
    """Plays one round and weighs what crossed."""
    data = sites()
    half, servers = prototypes(aggregator, plugins)
    module = SegmentationTask(encoder="plain-16", optimizer=partial(torch.optim.SGD, lr=0.01))
    build(module, data, [half, *servers], seed=0)
    server = Server(half, servers, parameters_of(module), buffers_of(module))
    context = context_of(data, 1)
    broadcast = server.broadcast(context)
    local = LocalTraining(steps=STEPS, measures=half.measures)
    updates: dict[str, Update] = {}
    for site in data.sites:
        client = Client(site, module, data, prototypes(aggregator, plugins)[1], local)
        with quiet():
            updates[site] = client.fit(broadcast)
    server.collect(context, updates.items(), min_sites=len(updates))
    return weighed(updates[data.sites[0]], server.broadcast(context_of(data, 2)))


def context_of(data: SyntheticSites, number: int) -> RoundContext:
    samples = {site: data.num_samples(site) for site in data.sites}
    weights = {site: float(count) for site, count in samples.items()}
    return RoundContext(number, 20, 0, data.sites, data.sites, samples, weights)


def weighed(update: Update, broadcast: Broadcast) -> Traffic:
    up, down = (sum(num_bytes(dict(part)) for part in message.shared.values()) for message in (update, broadcast))
    return Traffic(up, down, num_bytes(update.params) + num_bytes(update.buffers))
