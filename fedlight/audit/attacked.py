"""Gradient inversion of everything that a run shows, beside what needs no update and beside a case that succeeds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlight.audit.control import control
from fedlight.audit.inversion import Attacker, Gradients, cosine_distance, invert
from fedlight.audit.leaks import Leak, gradients_of
from fedlight.audit.rounded import rounded
from fedlight.audit.similarity import Likeness, best_match, likeness
from fedlight.batch import Batch
from fedlight.randomness import generator
from fedlight.tasks.federated_module import FederatedModule

log = logging.getLogger("fedlight")

MARGIN = 1.0
"""dB above the mean image from which on an attack counts as one that found something."""

CONTROL, MEAN, CONSTANT = "control: small network", "mean image", "best constant"


@dataclass(frozen=True, slots=True)
class Attacked:
    """One line of a table: an attack and how like the truth its picture is.

    Attributes:
        name: Which case this is.
        says: What the picture is made of.
        found: How like the truth it is.
        image: (C, H, W), the picture.
        misfit: Of its gradient to what was observed; None where none was.
        beats: Whether it shows more than the mean image does; None for what is no attack on a gradient.
        own: Whether the run itself shows this to somebody.
    """

    name: str
    says: str
    found: Likeness
    image: Tensor
    misfit: float | None = None
    beats: bool | None = None
    own: bool = False


def inversions(
    module: FederatedModule, batch: Batch, leaks: Sequence[Leak], attacker: Attacker, seed: int
) -> Iterator[Attacked]:
    """Yields what needs no update, the control, and what the attacker makes of every leak.

    Args:
        module: The task with the model that the site was sent.
        batch: Images of the site; the first is the one that is sought.
        leaks: What is seen.
        attacker: How hard to try.
        seed: Of the starts.
    """
    images, truth = batch["image"], batch["image"][0]
    flat = truth.mean((1, 2), keepdim=True).expand_as(truth).contiguous()
    mean = images[1:].mean(0) if len(images) > 1 else flat
    search = rounded(module)
    cases = [(leak, gradients_of(search, *_labels(batch, leak.images))) for leak in leaks]
    _announce(cases, images, attacker)
    yield Attacked(MEAN, "The mean of the site's other images of the batch.", likeness(mean, truth), mean)
    yield Attacked(CONSTANT, "The mean of every channel of the true image.", likeness(flat, truth), flat)
    small = control(truth, seed)
    says = "The same attack on the same image and a small network with a linear layer, fresh weights."
    cases.insert(0, (Leak(CONTROL, says, small(images[:1]), 1), small))
    for index, (leak, gradients) in enumerate(cases):
        draws = generator(seed, "audit", "inversion", index)
        span = (float(images.min()), float(images.max()))
        found = invert(gradients, leak.observed, (leak.images, *truth.shape), span, attacker, draws, mean)
        yield _compared(leak, found.images, found.misfit, images, mean)


def _compared(leak: Leak, guesses: Tensor, misfit: float, images: Tensor, mean: Tensor) -> Attacked:
    """Compares in the attacker's favour: the image of the batch that was found best, with the mean image at that."""
    each = [best_match(guess, images[: leak.images]) for guess in guesses]
    best = max(range(len(each)), key=lambda index: each[index].psnr)
    beats = each[best].psnr > best_match(mean, images[: leak.images]).psnr + MARGIN
    return Attacked(leak.name, leak.says, each[best], guesses[best], misfit, beats, leak.own)


def _labels(batch: Batch, count: int) -> tuple[Tensor, Tensor]:
    return batch["mask"][:count], batch["valid"][:count]


def _announce(cases: Sequence[tuple[Leak, Gradients]], images: Tensor, attacker: Attacker) -> None:
    """Says how long the attacks will take, by one step of each number of images."""
    seconds = dict[int, float]()
    for leak, gradients in cases:
        if leak.images not in seconds:
            guess = images[: leak.images].clone().requires_grad_()
            seconds[leak.images] = min(_timed(gradients, guess, leak.observed) for _ in range(3))  # the first is slower
    total = sum(seconds[leak.images] for leak, _ in cases) * attacker.steps * attacker.restarts
    log.warning(
        "%d attacks with %d steps from %d start(s) take about %.0f min; fewer of them take less",
        len(cases),
        attacker.steps,
        attacker.restarts,
        total / 60 + 0.5,
    )


def _timed(gradients: Gradients, guess: Tensor, observed: Sequence[Tensor]) -> float:
    begun = time.perf_counter()
    torch.autograd.grad(cosine_distance(gradients(guess), observed), guess)
    return time.perf_counter() - begun


def verdict(rows: Sequence[Attacked]) -> tuple[str, ...]:
    """Says in sentences what the table means: whether the attack works at all, and what it did to this run."""
    by_name: Mapping[str, Attacked] = {row.name: row for row in rows}
    control_works = by_name[CONTROL].beats
    said = [
        f"On the control the attack {'succeeded' if control_works else 'failed'}: "
        f"{by_name[CONTROL].found.psnr:.1f} dB, the mean image {by_name[MEAN].found.psnr:.1f} dB."
        + ("" if control_works else " Its other failures mean nothing then; give it more steps.")
    ]
    hit = [row.name for row in rows if row.own and row.beats]
    if hit:
        said.append(f"It found more than the mean image in what this run shows ({', '.join(hit)}): images leak.")
    else:
        said.append("In what this run shows the attack did not beat the mean image. This is not a proof of safety.")
    return tuple(said)
