"""What an attacker gets to see of one image or one round, with and without protections."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlight.audit.inversion import Gradients
from fedlight.batch import Batch
from fedlight.compression import Pipeline
from fedlight.plugins import Codec, Lossless
from fedlight.randomness import generator
from fedlight.state import State
from fedlight.tasks.federated_module import FederatedModule


@dataclass(frozen=True, slots=True)
class Leak:
    """What is seen of some images.

    Attributes:
        name: Which case this is.
        says: What the attacker has, in a sentence.
        observed: What points where the gradient points, one tensor a parameter.
        images: How many images are in it.
    """

    name: str
    says: str
    observed: Sequence[Tensor]
    images: int


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


def leaks(
    module: FederatedModule,
    batch: Batch,
    codecs: Sequence[Codec | Lossless],
    noise: float,
    steps: int,
    seed: int,
) -> Iterator[Leak]:
    """Yields the cases of an audit, the worst one first.

    Args:
        module: The task with the model that the site was sent; it stays as it is.
        batch: Images of the site; the first is the one that is sought.
        codecs: Of the second case.
        noise: Standard deviation of the noise, in units of the norm to which the gradient is clipped.
        steps: Of local training, with the run's optimizer.
        seed: Of codecs and noise.
    """
    count = len(batch["case"])
    first = [
        value.detach() for value in gradients_of(module, batch["mask"][:1], batch["valid"][:1])(batch["image"][:1])
    ]
    yield Leak("one image, one step", "The exact gradient of one image.", first, 1)
    names = " and ".join(type(codec).__name__ for codec in codecs)
    if codecs:
        yield Leak(f"... {names}", f"That gradient as {names} writes it.", coded(module, first, codecs, seed), 1)
    says = f"That gradient, clipped to norm 1, with Gaussian noise of standard deviation {noise:g}."
    yield Leak(f"... clipped, noise {noise:g}", says, noised(first, noise, seed), 1)
    whole = [value.detach() for value in gradients_of(module, batch["mask"], batch["valid"])(batch["image"])]
    yield Leak(f"{count} images, one step", f"The mean gradient of {count} images.", whole, count)
    says = f"What {steps} steps of the run's optimizer changed in the model, over {count} images."
    yield Leak(f"{count} images, {steps} steps", says, trained(module, batch, steps), count)


def coded(
    module: FederatedModule, observed: Sequence[Tensor], codecs: Sequence[Codec | Lossless], seed: int
) -> Sequence[Tensor]:
    """Returns what the server reads of a gradient that codecs have written."""
    state = dict(zip(_names(module), observed, strict=True))
    pipeline = Pipeline(copy.deepcopy(list(codecs)), state)
    return list(pipeline.decode(pipeline.encode(state, seed, "audit"), seed, "audit").values())


def noised(observed: Sequence[Tensor], noise: float, seed: int) -> Sequence[Tensor]:
    """Returns a gradient clipped to norm 1 with Gaussian noise: the mechanism of DP-SGD on a batch of one image."""
    norm = torch.cat([value.flatten() for value in observed]).norm()
    draws = generator(seed, "audit", "noise")
    return [value / norm.clamp_min(1.0) + noise * torch.randn(value.shape, generator=draws) for value in observed]


def trained(module: FederatedModule, batch: Batch, steps: int) -> Sequence[Tensor]:
    """Returns how a model changes in a few steps on one batch, with its sign turned: it points along gradients."""
    twin = copy.deepcopy(module)
    optimizer = twin.configure_optimizers()
    params = [p for p in twin.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in params]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(twin.criterion(twin(batch["image"]), batch["mask"], batch["valid"]))
        optimizer.step()
    return [before - after.detach() for before, after in zip(start, params, strict=True)]


def _names(module: FederatedModule) -> list[str]:
    return [name for name, p in module.named_parameters() if p.requires_grad]


def shared_by_sites(shared: Mapping[str, Tensor], site: str) -> State:
    """Returns what a bank holds under a site's name, by the rest of the name."""
    return {name.removeprefix(f"{site}/"): value for name, value in shared.items() if name.startswith(f"{site}/")}
