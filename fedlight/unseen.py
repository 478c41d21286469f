"""Scoring at an institution that took no part: the only place where its cases are ever evaluated."""

from __future__ import annotations

from collections.abc import Iterator

from fedlight.buffers import recalibrate
from fedlight.client import Client
from fedlight.executors import ClientFactory
from fedlight.state import RunningMean, buffers_of
from fedlight.update import Broadcast, Evaluation


def score_unseen(
    make_client: ClientFactory, broadcast: Broadcast, institution: str, private: bool
) -> Iterator[tuple[str, Evaluation]]:
    """Scores every model that the federation has to offer to an unseen institution, in detail.

    Where all parameters are shared that is one, called "global". Where some stay at the sites there is one for every
    site, made of the shared parameters and that site's own, and one with the sites' weighted mean of these, called
    "mean"; where all stay there is no such mean, as the models have nothing in common. Running statistics that the
    federation does not share are computed from the unseen institution's own images, without their labels.

    Args:
        make_client: Makes clients in their state of the selected round.
        broadcast: The selected global model.
        institution: The institution that took no part.
        private: Whether sites keep parameters of their own.

    Yields:
        Name of the model and its evaluation on all cases of the institution.
    """
    context = broadcast.context
    mean = RunningMean()
    for site in context.sites if private else context.sites[:1]:
        client = make_client(site, context.round)
        if client.own:  # a site that never took part has nothing of its own
            mean.add(client.own, context.weights[site])
        client.receive(broadcast, own=None if private else {})
        yield from _scored(site if private else "global", client, institution, context.round)
    if private and broadcast.params and mean.total:
        client.receive(broadcast, own=mean.result())
        yield from _scored("mean", client, institution, context.round)


def _scored(model: str, client: Client, institution: str, round: int) -> Iterator[tuple[str, Evaluation]]:
    """Scores what a client has loaded; with running statistics of this institution, if they are not shared."""
    if client.local.buffers != "average" and buffers_of(client.module):
        recalibrate(client.module, (client.module.seen(batch) for batch in client.data.loader(institution, "test")))
    evaluation = client.score(institution, "test", round, detailed=True)
    if evaluation is not None:
        yield model, evaluation
