"""A bank of styles: what every site shares of the style of its images, and who is restyled after whom."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure, of_single_images, over_images
from fedlight.plugins.image_means import ImageMeans
from fedlight.plugins.style import (
    StyleAugmentation,
    exchange_moments,
    require_min_images,
    require_probability,
    require_spread,
)
from fedlight.statistics import channel_moments, valid_at
from fedlight.update import Broadcast, RoundContext

log = logging.getLogger("fedlight")


class StyleBank(StyleAugmentation, ImageMeans):
    """Restyles images after other sites; a member says what a style is, what of it is shared and how it is put on.

    Members have the arguments ``p`` (probability that an image is restyled), ``stages`` (where) and ``min_images`` (a
    site that saw fewer different images in a round shares nothing). An image that was restyled at one stage is not
    measured at later ones. What is not valid keeps its values. A round without a bank is plain training.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}
    style: ClassVar[str] = "means and spreads of channels"
    """What a style is, in words."""

    p: float

    @abstractmethod
    def describe(self, x: Tensor, valid: Tensor) -> Tensor:
        """Returns the style of every image at a stage: (N, C, h, w), detached, to (N, ...), float32."""

    @abstractmethod
    def summarise(self, styles: Tensor) -> Tensor:
        """Returns what a site shares of the styles of its images at a stage: (n, ...), of a size without n."""

    @abstractmethod
    def put_on(self, x: Tensor, own: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        """Returns restyled features.

        Args:
            x: (N, C, h, w).
            own: (N, ...), float32, what ``describe`` returned.
            others: (N, ...), float32, for every image what another site shared.
            valid: (N, H, W), bool.
        """

    def discloses(self) -> Disclosure | None:
        if not self.p:
            return None
        return Disclosure(
            f"style at {', '.join(self.stages)} ({self.style}), in each site's name to all",
            f"moments {over_images(self.min_images)}",
            of_single_images(self.min_images, "the style"),
        )

    def validate(self) -> None:
        require_probability(self.p)
        require_min_images(self.min_images)
        if self.p == 1 and len(self.stages) > 1:
            raise ValueError(
                "p must be below 1 with several stages, got 1: no image would be left to measure. Use 0.9."
            )

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        bank = broadcast.shared.get(self.instance_id, {})
        others = sorted({key.rpartition("/")[0] for key in bank} - {site})
        self._donors = [other for other in others if all(f"{other}/{stage}" in bank for stage in self.stages)]
        self._bank = bank
        self._seen: dict[str, list[Tensor]] = {stage: [] for stage in self.stages}
        self._cases: dict[str, set[str]] = {stage: set() for stage in self.stages}

    def transform_batch(self, batch: Batch) -> Batch:
        """Draws who is restyled after whom, the same at every stage; images stay as they are."""
        n = len(batch["case"])
        chosen = torch.rand(n, generator=self.generator) < self.p
        self._chosen = chosen & bool(self._donors)
        self._donor = torch.randint(max(len(self._donors), 1), (n,), generator=self.generator)
        self._clean = batch["valid"].flatten(1).any(1).cpu()  # (N,), what may still be measured
        return batch

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        if not self.p:
            return x
        own = self.describe(x.detach(), batch["valid"])
        self._measure(stage, own, batch["case"])
        if not bool(self._chosen.any()):
            return x
        self._clean = self._clean & ~self._chosen
        others = torch.stack([self._bank[f"{donor}/{stage}"].cpu() for donor in self._donors])[self._donor]
        styled = self.put_on(x, own, others.to(x.device), batch["valid"])
        inside = valid_at(batch["valid"], (x.shape[-2], x.shape[-1])).bool()
        return torch.where(inside & self._chosen[:, None, None, None].to(x.device), styled, x)

    def _measure(self, stage: str, own: Tensor, cases: Sequence[str]) -> None:
        self._seen[stage].append(own[self._clean.to(own.device)])
        self._cases[stage].update(case for case, clean in zip(cases, self._clean.tolist(), strict=True) if clean)

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._bank = self._seen, {}, {}
        return {
            stage: self.summarise(torch.cat(styles)).cpu()
            for stage, styles in seen.items()
            if styles and len(self._cases[stage]) >= self.min_images
        }

    # --- under example-level privacy ---------------------------------------------------------------------------

    def releases(self, rounds: int) -> int:
        return rounds if self.p else 0

    def of_images(self, batch: Batch, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {stage: self.describe(features[stage], batch["valid"]) for stage in self.stages}

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._fresh: dict[str, Tensor] = {}

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._fresh.update({f"{site}/{stage}": style for stage, style in shared.items()})

    def finish(self) -> Statistics:
        if self.p and not self._fresh and not self._previous:
            name = type(self).__name__
            log.warning("%s has no style to offer: no site saw %d different images (min_images)", name, self.min_images)
        return {**self._previous, **self._fresh}


SQUARES = "/squares"
"""Ends the name of the mean of squares."""


class MomentBank(StyleBank):
    """A bank whose styles are mean and standard deviation of every channel: mu and sigma.

    Members that draw styles may have the argument ``spread``: how far around a site's mean style; 0 takes it itself.
    """

    spread: float = 1.0

    def validate(self) -> None:
        super().validate()
        require_spread(self.spread)

    def describe(self, x: Tensor, valid: Tensor) -> Tensor:
        mean, variance = channel_moments(x, valid)
        return torch.stack([mean, variance.sqrt()], 1).flatten(2)  # (N, 2, C)

    def summarise(self, styles: Tensor) -> Tensor:
        """Returns mean of mu, mean of sigma, deviation of mu and of sigma over images: (n, 2, C) to (4, C)."""
        return torch.cat([styles.mean(0), styles.std(0, unbiased=False)])

    def of_images(self, batch: Batch, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        styles = super().of_images(batch, features)
        return {**styles, **{f"{stage}{SQUARES}": style.square() for stage, style in styles.items()}}

    def from_means(self, means: Statistics) -> Statistics:
        return {stage: self.of_squares(means[stage], means[f"{stage}{SQUARES}"]) for stage in self.stages}

    def of_squares(self, mean: Tensor, square: Tensor) -> Tensor:
        """Returns what ``summarise`` would, of the means of mu and sigma and of their squares, (2, C) each."""
        return torch.cat([not_negative(mean[None])[0], (square - mean.square()).clamp_min(0).sqrt()])

    def drawn(self, others: Tensor) -> Tensor:
        """Draws a style around that of a site: mu_s and sigma_s, (N, 4, C) to (N, 2, C)."""
        center, deviation = others[:, :2], others[:, 2:]  # (N, 2, C), of mu and sigma
        noise = torch.randn(center.shape, generator=self.generator).to(center.device)
        return not_negative(center + self.spread * noise * deviation)

    @staticmethod
    def put_on_style(x: Tensor, own: Tensor, style: Tensor) -> Tensor:
        """Gives images another mu and sigma, (N, 2, C) each; neither carries a gradient."""
        mean, std = own[..., None, None].unbind(1)  # (N, C, 1, 1)
        new_mean, new_std = style[..., None, None].unbind(1)
        return exchange_moments(x, mean, std.square(), new_mean, new_std.square())


def not_negative(style: Tensor) -> Tensor:
    """Replaces negative standard deviations by 0 in styles (N, 2, C) of mu and sigma."""
    return torch.stack([style[:, 0], style[:, 1].clamp_min(0)], 1)
