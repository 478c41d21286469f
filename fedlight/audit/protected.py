"""What a run's own protections leave of what a site has to say, applied for real."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlight import state
from fedlight.batch import Batch
from fedlight.compression import Pipeline
from fedlight.plugins import Aggregator, Codec, Lossless
from fedlight.privacy.accounting import Ledger
from fedlight.privacy.example_level import Account, ExampleLevel, Terms
from fedlight.privacy.fixed_point import from_ring, to_ring
from fedlight.randomness import generator
from fedlight.secure_aggregation import SecureAggregation
from fedlight.tasks.federated_module import FederatedModule
from fedlight.update import Broadcast, RoundContext, Update

Tensors = Sequence[Tensor]
"""Something that points along a gradient, one tensor a parameter."""


@dataclass(frozen=True, slots=True)
class Protections:
    """What a run does for what a site sends.

    Attributes:
        codecs: What updates are written with.
        privacy: Example-level privacy, if any.
        noise: Its noise at the site, over the norm to which patients are clipped.
        aggregator: One that accounts for whole sites, if the run has one.
        secure: Secure aggregation, if any.
    """

    codecs: Sequence[Codec | Lossless] = ()
    privacy: ExampleLevel | None = None
    noise: float = 0.0
    aggregator: Aggregator | None = None
    secure: SecureAggregation | None = None


def trained(module: FederatedModule, batch: Batch, steps: int, terms: Protections | None = None) -> Tensors:
    """Returns how a model changes in a few steps on one batch, with its sign turned: it points along gradients.

    Args:
        module: The task with the model that the site was sent; it stays as it is.
        batch: Of all steps.
        steps: How many, with the run's optimizer.
        terms: With example-level privacy in them, steps are those of DP-SGD in which every image takes part.
    """
    if terms is None or terms.privacy is None:
        return _trained(copy.deepcopy(module), batch, steps)
    twin, count = copy.deepcopy(module), len(batch["case"])
    with Account(terms.privacy, Ledger()).steps(twin, Terms(terms.noise, 1.0, steps, count)):
        return _trained(twin, batch, steps)


def _trained(twin: FederatedModule, batch: Batch, steps: int) -> Tensors:
    optimizer = twin.configure_optimizers()
    params = [p for p in twin.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in params]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(twin.criterion(twin(batch["image"]), batch["mask"], batch["valid"]))
        optimizer.step()
    return [before - after.detach() for before, after in zip(start, params, strict=True)]


def coded(module: FederatedModule, seen: Tensors, codecs: Sequence[Codec | Lossless], seed: int) -> Tensors:
    """Returns what the server reads of what codecs have written."""
    values = dict(zip(state.parameters_of(module), seen, strict=True))
    pipeline = Pipeline(copy.deepcopy(list(codecs)), values)
    return list(pipeline.decode(pipeline.encode(values, seed, "audit"), seed, "audit").values())


def noised(seen: Tensors, noise: float, clip: float, seed: int) -> Tensors:
    """Returns a gradient clipped to a norm with Gaussian noise: the mechanism of DP-SGD on a batch of one image."""
    share = clip / state.flat(list(seen)).norm().clamp_min(clip)
    draws = generator(seed, "audit", "noise")
    return [value * share + noise * clip * torch.randn(value.shape, generator=draws) for value in seen]


def released(
    module: FederatedModule, seen: Tensors, aggregator: Aggregator, sites: Sequence[str], seed: int
) -> Tensors:
    """Returns what the next model tells of one site's change to whoever knows what all the others sent.

    Args:
        module: The task with the model that the site was sent; it stays as it is.
        seen: What the site changed, with its sign turned.
        aggregator: With a client half that may shorten changes; both are copied.
        sites: Of the run; the first one's change is given.
        seed: Of the run.
    """
    server, twin = copy.deepcopy(aggregator), copy.deepcopy(module)
    context = RoundContext(1, 1, seed, tuple(sites), (sites[0],), {sites[0]: 1}, {sites[0]: 1.0})
    start = state.parameters_of(module)
    half, shared = server.client_half(), {}
    if half is not None:
        half.instance_id = type(half).__name__
        half.on_round_start(sites[0], twin, Broadcast(context, start, {}))
    state.load(twin, {name: value - moved for (name, value), moved in zip(start.items(), seen, strict=True)})
    if half is not None:
        shared = {half.instance_id: half.on_round_end(twin)}
    server.begin(context, start)
    server.add(Update(sites[0], 1, 1, state.parameters_of(twin), {}, shared=shared))
    return [value - after for value, after in zip(start.values(), server.finish().values(), strict=True)]


def masked(seen: Tensors, secure: SecureAggregation, sites: int) -> Tensors:
    """Returns the numbers that the server reads in the vector of one site under secure aggregation, masks and all."""
    from fedlight.privacy.secure_sum import Member

    members = [Member(str(index), secure.needed(sites), round=1) for index in range(sites)]
    keys = {member.name: member.public_keys for member in members}
    shares = {member.name: member.share(keys)[members[0].name] for member in members}
    vector = to_ring(state.flat(list(seen)), sites, secure.fraction)
    read = from_ring(members[0].mask(vector, shares), secure.fraction).float()
    parts = torch.split(read, [value.numel() for value in seen])
    return [part.reshape(value.shape) for part, value in zip(parts, seen, strict=True)]
