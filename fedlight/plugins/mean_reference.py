"""Harmonisation towards a mean over the federation, taken once: in the first round in which sites share."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure, of_single_images, over_images
from fedlight.plugins.harmonisation import Harmonisation
from fedlight.plugins.image_means import ImageMeans
from fedlight.plugins.style import require_min_images
from fedlight.state import RunningMean
from fedlight.update import Broadcast, RoundContext

log = logging.getLogger("fedlight")


class MeanReference(Harmonisation, ImageMeans):
    """Measures images in the first round; the mean over a site's images, then over sites, is the reference for good.

    Members have the argument ``min_images`` (a site that saw fewer different images shares nothing). Images without a
    valid pixel are not measured.
    """

    measured: ClassVar[str] = "statistics of images"
    """What ``describe`` returns, in words."""

    linear = True

    @abstractmethod
    def describe(self, images: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
        """Returns what is averaged, by name, for every image: (N, ...), float32."""

    def active(self) -> bool:
        """Says whether there is anything to do."""
        return True

    def validate(self) -> None:
        require_min_images(self.min_images)

    def discloses(self) -> Disclosure | None:
        if not self.active():
            return None
        return Disclosure(
            f"{self.measured}, once, for a reference that all sites share",
            f"mean {over_images(self.min_images)}, then over sites",
            of_single_images(self.min_images, self.measured),
        )

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        super().on_round_start(site, module, broadcast)
        self._seen: list[Mapping[str, Tensor]] = []
        self._cases: set[str] = set()

    def measure(self, batch: Batch) -> None:
        usable = batch["valid"].flatten(1).any(1)
        if not self.active() or self._reference or not bool(usable.any()):
            return  # what is known is frozen
        self._seen.append(self.describe(batch["image"][usable], batch["valid"][usable]))
        self._cases.update(case for case, fit in zip(batch["case"], usable.tolist(), strict=True) if fit)

    def on_round_end(self, module: LightningModule) -> Statistics:
        shared = dict(super().on_round_end(module))
        seen, self._seen = self._seen, []
        if not seen or len(self._cases) < self.min_images:
            return shared
        means = {name: torch.cat([each[name] for each in seen]).double().mean(0).float().cpu() for name in seen[0]}
        return {**shared, **means}

    # --- under example-level privacy ---------------------------------------------------------------------------

    def releases(self, rounds: int) -> int:
        return int(self.active() and not self._reference)

    def of_images(self, batch: Batch, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.describe(batch["image"], batch["valid"])

    def from_means(self, means: Statistics) -> Statistics:
        return means

    # --- under secure aggregation --------------------------------------------------------------------------------

    def summand(self, shared: Statistics, weight: float, reference: Statistics) -> tuple[Statistics, float]:
        return shared, 1.0  # sites count alike

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._mean = RunningMean()

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        if not self._previous:
            self._mean.add(shared, 1)

    def finish(self) -> Statistics:
        if self._previous or not self.active():
            return self._previous
        if not self._mean.total:
            name = type(self).__name__
            log.warning("%s is idle: no site saw %d different images (min_images)", name, self.min_images)
            return {}
        return self._mean.result()
