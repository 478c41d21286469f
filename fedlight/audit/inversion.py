"""Gradient inversion: the image whose gradient points where an update points (Geiping et al., arXiv 2003.14053).

    min_x  1 - <g(x), u> / (|g(x)| |u|)  +  tv TV(x)

u is what the attacker has: a gradient, or the difference of two models with its sign turned. g(x) is the gradient of
the loss at the model that the site was sent, with the true mask, which is the worst case; the image is all that is
sought. Steps are those of Adam with the signs of gradients, at a rate that falls three times. The attacker knows the
range of intensities, and other images of the same kind: the first start is their mean, the others are noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Gradients = Callable[[Tensor], Sequence[Tensor]]
"""From images (N, C, H, W) to the gradient of the loss by every parameter, differentiable."""


@dataclass(frozen=True, slots=True)
class Attacker:
    """How hard an attacker tries.

    Attributes:
        steps: Steps from every start.
        restarts: How many starts; the one that fits best is kept, without a look at the truth.
        tv: Weight of the total variation.
        rate: Length of the first steps from noise, as a share of the range of intensities; a fifth of it from a guess.
    """

    steps: int = 300
    restarts: int = 2
    tv: float = 1e-3
    rate: float = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """What an attack found.

    Attributes:
        images: (N, C, H, W).
        misfit: 1 - cosine between its gradient and the observed one, 0 for a perfect fit.
    """

    images: Tensor
    misfit: float


def invert(
    gradients: Gradients,
    observed: Sequence[Tensor],
    size: Sequence[int],
    span: tuple[float, float],
    attacker: Attacker,
    generator: torch.Generator,
    guess: Tensor | None = None,
) -> Found:
    """Returns the images that explain a gradient best.

    Args:
        gradients: What images would give.
        observed: What the attacker has, one tensor a parameter.
        size: (N, C, H, W) of the images.
        span: Lowest and highest intensity.
        attacker: How hard to try.
        generator: For the starts.
        guess: (C, H, W), where the first start is; noise if left out.
    """
    low, high = span
    tries = list[tuple[Found, float]]()
    for index in range(attacker.restarts):
        start, rate = low + (high - low) * torch.rand(tuple(size), generator=generator), attacker.rate
        if guess is not None and index == 0:
            start, rate = 0.9 * guess.clamp(low, high) + 0.1 * start, attacker.rate / 5
        tries.append(_descend(gradients, observed, start, span, attacker, rate))
    return min(tries, key=lambda found: found[1])[0]


def _descend(
    gradients: Gradients,
    observed: Sequence[Tensor],
    start: Tensor,
    span: tuple[float, float],
    attacker: Attacker,
    rate: float,
) -> tuple[Found, float]:
    """Goes down from one start; returns the best image on the way, and its objective."""
    low, high = span
    images = start.requires_grad_()
    optimizer = torch.optim.Adam([images], lr=rate * (high - low))
    falls = [int(attacker.steps * share) for share in (3 / 8, 5 / 8, 7 / 8)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)
    best, least = Found(images.detach().clone(), 1.0), float("inf")
    for _ in range(attacker.steps):
        distance = cosine_distance(gradients(images), observed)
        loss = distance + attacker.tv * total_variation(images) / (high - low)
        if (value := float(loss.detach())) < least:
            best, least = Found(images.detach().clone(), float(distance.detach())), value
        (slope,) = torch.autograd.grad(loss, images)
        images.grad = slope.sign()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(low, high)
    return best, least


def cosine_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Returns 1 - cosine between two gradients, each laid end to end; in [0, 2]."""
    along = sum(((a * b).sum() for a, b in zip(one, other, strict=True)), torch.zeros(()))
    lengths = [sum((a.square().sum() for a in each), torch.zeros(())).sqrt() for each in (one, other)]
    return 1 - along / (lengths[0] * lengths[1]).clamp_min(1e-12)


def total_variation(images: Tensor) -> Tensor:
    """Returns the mean distance of neighbouring pixels of images (N, C, H, W)."""
    down, right = images.diff(dim=-2).abs().mean(), images.diff(dim=-1).abs().mean()
    return down + right
