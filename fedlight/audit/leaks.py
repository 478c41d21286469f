"""What an attacker gets to see of one image or one round: first as it is, then as the run's protections leave it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlight.audit.inversion import Gradients
from fedlight.audit.protected import Protections, Tensors, coded, masked, noised, released, trained
from fedlight.batch import Batch
from fedlight.state import State
from fedlight.tasks.federated_module import FederatedModule

WORST, REAL = "one image, one step", "own round"
"""The strongest case for the attacker, and that of the run: its batch, its steps and its optimizer."""


@dataclass(frozen=True, slots=True)
class Leak:
    """What is seen of some images.

    Attributes:
        name: Which case this is, in few words.
        says: What the attacker has, in a sentence.
        observed: What points where the gradient points.
        images: How many images are in it.
        own: Whether the run itself shows this to somebody.
    """

    name: str
    says: str
    observed: Tensors
    images: int
    own: bool = False


def gradients_of(module: FederatedModule, masks: Tensor, valid: Tensor) -> Gradients:
    """Returns the function from images to the gradient of the supervised loss, with the true masks.

    Args:
        module: The task with the model that the site was sent.
        masks: (N, H, W), int64.
        valid: (N, H, W), bool.
    """
    params = [p for p in module.parameters() if p.requires_grad]

    def gradients(images: Tensor) -> Sequence[Tensor]:
        loss = module.criterion(module(images), masks, valid)
        return torch.autograd.grad(loss, params, create_graph=images.requires_grad)

    return gradients


def of_one_image(
    module: FederatedModule, batch: Batch, protections: Protections, noise: float, seed: int
) -> Iterator[Leak]:
    """Yields the worst case: the gradient of the first image alone, plain, protected and as noise would leave it.

    Args:
        module: The task with the model that the site was sent; it stays as it is.
        batch: Images of the site; the first is the one that is sought.
        protections: Of the run.
        noise: Of the supposed case, where the run has no noise; 0 leaves that out.
        seed: Of codecs and noise.
    """
    gradients = gradients_of(module, batch["mask"][:1], batch["valid"][:1])
    plain = [value.detach() for value in gradients(batch["image"][:1])]
    yield Leak(WORST, "The exact gradient of one image.", plain, 1)
    if (own := protections.privacy) is not None:
        says = f"It clipped to norm {own.clip:g}, with the run's own noise of {protections.noise:.3g} times that."
        yield Leak(f"{WORST}, DP-SGD", says, noised(plain, protections.noise, own.clip, seed), 1)
    elif noise:
        says = f"Not of this run: DP-SGD with noise {noise:g}. The gradient clipped to norm 1 and noise on it."
        yield Leak(f"supposed, noise {noise:g}", says, noised(plain, noise, 1.0, seed), 1)
    if protections.codecs:
        yield Leak(f"{WORST}, codecs", *_coded(module, plain, protections, seed), 1)


def of_a_round(
    module: FederatedModule,
    batches: Mapping[str, Batch],
    weights: Mapping[str, float],
    protections: Protections,
    steps: int,
    seed: int,
) -> Iterator[Leak]:
    """Yields what a round of the first site shows, plain and as each of the run's own protections leaves it.

    Args:
        module: The task with the model that the sites were sent; it stays as it is.
        batches: One of every site; the first one's images are sought.
        weights: What every site counts for.
        protections: Of the run.
        steps: Of local training, with the run's optimizer.
        seed: Of codecs.
    """
    batch = next(iter(batches.values()))
    count = len(batch["case"])
    change = trained(module, batch, steps)
    plain = not (protections.codecs or protections.privacy or protections.secure)
    says = f"What {steps} steps of the run's optimizer changed in the model, all on the same {count} images."
    yield Leak(f"{REAL}, plain", says, change, count, own=plain)
    if protections.privacy is not None:
        change = trained(module, batch, steps, protections)
        says = f"The same with DP-SGD: clip {protections.privacy.clip:g}, noise {protections.noise:.3g} in every step."
        yield Leak(f"{REAL}, DP-SGD", says, change, count, own=not (protections.codecs or protections.secure))
    if protections.codecs:
        yield Leak(f"{REAL}, codecs", *_coded(module, change, protections, seed), count, own=True)
    if protections.aggregator is not None:
        says = f"What the model after {type(protections.aggregator).__name__} tells those who know all other updates."
        shown = released(module, change, protections.aggregator, list(batches), seed)
        yield Leak(f"{REAL}, central DP", says, shown, count, own=True)
    if protections.secure is not None:
        says = "What the server gets of the site under secure aggregation: the masked vector."
        yield Leak(f"{REAL}, masked", says, masked(change, protections.secure, len(batches)), count, own=True)
        others = (trained(module, other, steps, protections) for other in list(batches.values())[1:])
        says = f"The sum over {len(batches)} sites, which the server learns, attacked as if it were this site's."
        yield Leak(f"{REAL}, sum of sites", says, _sum([change, *others], list(weights.values())), count, own=True)


def _coded(module: FederatedModule, seen: Tensors, protections: Protections, seed: int) -> tuple[str, Tensors]:
    names = " and ".join(type(codec).__name__ for codec in protections.codecs)
    return f"That as {names} writes it.", coded(module, seen, protections.codecs, seed)


def _sum(changes: Sequence[Tensors], weights: Sequence[float]) -> Tensors:
    weighted = [[weight * value for value in change] for change, weight in zip(changes, weights, strict=True)]
    return [torch.stack(values).sum(0) for values in zip(*weighted, strict=True)]


def shared_by_sites(shared: Mapping[str, Tensor], site: str) -> State:
    """Returns what a bank holds under a site's name, by the rest of the name."""
    return {name.removeprefix(f"{site}/"): value for name, value in shared.items() if name.startswith(f"{site}/")}
