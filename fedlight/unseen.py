"""Scoring at an institution that took no part: the only place where its cases are ever evaluated."""

from __future__ import annotations

from collections.abc import Iterator

from fedlight.buffers import recalibrate
from fedlight.executors import ClientFactory
from fedlight.state import buffers_of
from fedlight.update import Broadcast, Evaluation


def score_unseen(
    make_client: ClientFactory, broadcast: Broadcast, institution: str, private: bool
) -> Iterator[tuple[str, Evaluation]]:
    """Scores every model that the federation has to offer to an unseen institution, distances included.

    Where all parameters are shared that is one, called "global". Where some stay at the sites there is one for every
    site, made of the shared parameters and that site's own. Running statistics that the federation does not share
    are computed from the unseen institution's own images, without their labels.

    Args:
        make_client: Makes clients in their state of the selected round.
        broadcast: The selected global model.
        institution: The institution that took no part.
        private: Whether sites keep parameters of their own.

    Yields:
        Name of the model and its evaluation on all cases of the institution.
    """
    sites = broadcast.context.sites
    for site in sites if private else sites[:1]:
        client = make_client(site, broadcast.context.round)
        client.receive(broadcast, with_own=private)
        if client.local.buffers != "average" and buffers_of(client.module):
            images = (client.module.seen(batch) for batch in client.data.loader(institution, "test"))
            recalibrate(client.module, images)
        evaluation = client.score(institution, "test", broadcast.context.round, distances=True)
        if evaluation is not None:
            yield (site if private else "global"), evaluation
