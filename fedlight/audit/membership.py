"""Membership inference by a threshold on the loss (Yeom et al., arXiv 1709.01604): was this case trained on?

The attacker says "yes" where the model's loss on a case is low. The unit is the case; several images of one patient
are not told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedlight.batch import Batch
from fedlight.data.federated import FederatedDataModule, Stage
from fedlight.tasks.federated_module import FederatedModule

DRAWS = 2000
"""Draws of the bootstrap."""

ALARMS = 0.1
"""False alarms that are allowed where true ones are counted."""

Losses = Sequence[float]


@dataclass(frozen=True, slots=True)
class Membership:
    """How well members are told from others.

    Attributes:
        members: Number of cases that were trained on.
        others: Number of cases that were not.
        auc: Probability that a member has the lower loss; 0.5 is a coin.
        low: Lower end of the 95 % interval, of draws of cases.
        high: Upper end.
        power: Share of the members that are found with at most ``ALARMS`` false alarms.
    """

    members: int
    others: int
    auc: float
    low: float
    high: float
    power: float


def infer(members: Losses, others: Losses, seed: int) -> Membership:
    """Weighs an attack on the losses of cases.

    Args:
        members: Of cases that were trained on.
        others: Of cases that were not.
        seed: Of the bootstrap.
    """
    inside, outside = np.asarray(members, float), np.asarray(others, float)
    drawn = [area(_again(inside, seed, draw, "in"), _again(outside, seed, draw, "out")) for draw in range(DRAWS)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    found = area(inside, outside)
    return Membership(len(inside), len(outside), found, float(low), float(high), power(inside, outside, ALARMS))


def area(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Returns the probability that a member has a lower loss than another case; equal ones count half.

    >>> area(np.array([1.0, 3.0]), np.array([2.0, 3.0]))
    0.625
    """
    difference = others[None, :] - members[:, None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def power(members: NDArray[np.float64], others: NDArray[np.float64], alarms: float) -> float:
    """Returns the share of members below the threshold at which at most a share of the others is below.

    >>> power(np.array([1.0, 1.5, 3.0]), np.array([2.0, 4.0]), 0.1)
    0.6666666666666666
    """
    allowed = int(alarms * len(others))
    threshold = np.sort(others)[allowed]
    return float((members < threshold).mean())


def _again(losses: NDArray[np.float64], seed: int, draw: int, side: str) -> NDArray[np.float64]:
    return losses[np.random.default_rng([seed, draw, side == "in"]).integers(len(losses), size=len(losses))]


def losses_of(module: FederatedModule, data: FederatedDataModule, institution: str, stage: Stage) -> list[float]:
    """Returns the mean of -log p over the valid pixels of every case, p what the model gives the true class."""
    module.eval()
    with torch.no_grad():
        return [loss for batch in data.loader(institution, stage) for loss in _losses(module, batch)]


def _losses(module: FederatedModule, batch: Batch) -> list[float]:
    chances = module.segment(batch).cpu()  # (N, K, H, W)
    right = chances.gather(1, batch["mask"][:, None])[:, 0].clamp_min(1e-7)
    valid = batch["valid"]
    return [float(-row[inside].log().mean()) for row, inside in zip(right, valid, strict=True) if bool(inside.any())]
