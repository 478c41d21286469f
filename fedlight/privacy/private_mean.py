"""The mean over patients of what a plugin measures on images, clipped and with noise that the site keeps secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedlight.privacy import secret


@dataclass(slots=True)
class PrivateMean:
    """Sums vectors of patients, each shortened to a norm, and adds Gaussian noise to the sum.

    Attributes:
        clip: Largest norm of the numbers of a patient, all names together, C.
        noise: Standard deviation of the noise over C, z.
    """

    clip: float
    noise: float
    _shapes: dict[str, torch.Size] = field(default_factory=dict)
    _sum: Tensor | None = None

    def add(self, rows: Mapping[str, Tensor]) -> None:
        """Takes numbers of patients by name, (N, ...) each; a patient whose numbers are not finite counts as 0."""
        self._shapes = {name: value.shape[1:] for name, value in rows.items()}
        vectors = torch.cat([value.detach().flatten(1) for value in rows.values()], 1).double().cpu()  # (N, D)
        vectors = torch.where(vectors.isfinite().all(1, keepdim=True), vectors, 0.0)
        norms = vectors.norm(dim=1, keepdim=True)
        shortened = vectors * (self.clip / norms.clamp_min(self.clip))
        self._sum = shortened.sum(0) if self._sum is None else self._sum + shortened.sum(0)

    def over(self, patients: int) -> dict[str, Tensor]:
        """Returns the sum with noise, divided by the number of patients, float32 by name; nothing of no numbers."""
        if self._sum is None:
            return {}
        noised = (self._sum + self.noise * self.clip * secret.normal(self._sum.shape)) / patients
        sizes = [shape.numel() for shape in self._shapes.values()]
        parts = zip(self._shapes.items(), torch.split(noised.float(), sizes), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}
