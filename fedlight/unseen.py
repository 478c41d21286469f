"""What a federation offers an institution that took no part: the only place where its cases are ever evaluated."""

from __future__ import annotations

from collections.abc import Iterator

from fedlight.adaptation import NO_HELP, Adaptation, helped
from fedlight.buffers import BufferAverage, recalibrate
from fedlight.client import Client
from fedlight.executors import ClientFactory
from fedlight.state import State, buffers_of, parameters_of
from fedlight.update import Broadcast, Evaluation


def score_unseen(
    make_client: ClientFactory,
    broadcast: Broadcast,
    institution: str,
    private: bool,
    adaptation: Adaptation = NO_HELP,
) -> Iterator[tuple[str, Evaluation]]:
    """Scores every model that the federation has to offer to an unseen institution, in detail.

    Args:
        make_client: See ``offered``.
        broadcast: See ``offered``.
        institution: See ``offered``.
        private: See ``offered``.
        adaptation: See ``offered``.

    Yields:
        Name of the model, with what helped it, and its evaluation on all cases of the institution.
    """
    for model, client in offered(make_client, broadcast, institution, private, adaptation):
        evaluation = client.score(institution, "test", broadcast.context.round, detailed=True)
        if evaluation is not None:
            yield helped(model, adaptation), evaluation


def offered(
    make_client: ClientFactory,
    broadcast: Broadcast,
    institution: str,
    private: bool,
    adaptation: Adaptation = NO_HELP,
) -> Iterator[tuple[str, Client]]:
    """Makes every model that the federation has to offer to an unseen institution.

    Where all parameters are shared that is one, called "global". Where some stay at the sites there is one for every
    site, made of the shared parameters and that site's own. Running statistics that the federation does not share are
    computed for these from the unseen institution's own images, without their labels.

    Where sites keep parameters or running statistics of their own there are two more. "mean" has the sites' weighted
    mean of these; where nothing is shared there is none, as the models have nothing in common. "ensemble" gives the
    plain mean of the class probabilities of all sites' models, each with everything that is its own.

    Args:
        make_client: Makes clients in their state of the selected round.
        broadcast: The selected global model.
        institution: The institution that took no part.
        private: Whether sites keep parameters of their own.
        adaptation: What helps all of them at test time.

    Yields:
        Name of the model and a client into which it is loaded; the next model may take its place there.
    """
    context = broadcast.context
    differ = private or make_client.local.buffers == "local"
    mean, members = BufferAverage(), []
    for site in context.sites if differ else context.sites[:1]:
        client = make_client(site, context.round)
        if client.own:  # a site that never took part has nothing of its own
            mean.add(client.own, context.weights[site])
            members.append(_member(client, broadcast, institution, adaptation))
        if private or site == context.sites[0]:
            client.receive(broadcast, own=None if private else {})
            _adapt(client, institution, adaptation, client.local.buffers != "average")
            yield site if private else "global", client
    if members and broadcast.params:
        client.receive(broadcast, own=mean.result())
        _adapt(client, institution, adaptation, private and client.local.buffers != "average")
        yield "mean", client
    if members:
        adaptation.prepare(client.module)
        client.module.ensemble = members
        yield "ensemble", client


def _member(client: Client, broadcast: Broadcast, institution: str, adaptation: Adaptation) -> State:
    """Returns a site's whole model as it is there; running statistics only if the site has none of its own."""
    client.receive(broadcast)
    _adapt(client, institution, adaptation, client.local.buffers == "recalibrate")
    return {**parameters_of(client.module), **buffers_of(client.module)}


def _adapt(client: Client, institution: str, adaptation: Adaptation, recalibrated: bool) -> None:
    """Helps a loaded model, and gives it running statistics of the institution's images, without labels, if so."""
    adaptation.prepare(client.module)
    if (recalibrated or adaptation.recalibrate) and buffers_of(client.module):
        recalibrate(client.module, (client.module.seen(batch) for batch in client.data.loader(institution, "test")))
