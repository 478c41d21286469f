"""AdaIN: images take on the style of another site (adaptive instance normalisation against a style bank).

    AdaIN(x) = sigma_s (x - mu(x)) / sigma(x) + mu_s                       (Huang and Belongie, arXiv 1703.06868, eq. 8)
    mu_s    ~ N(mean_s[mu],    spread^2 var_s[mu])       over the images of a site s that is not the image's own
    sigma_s ~ N(mean_s[sigma], spread^2 var_s[sigma])

A site shares, per stage and channel, mean and standard deviation over its images of each image's own mu and sigma:
four numbers a channel, nothing of a single image. A bank of overall styles, one a site, is CCST's (arXiv 2210.00912);
drawing around it, and doing so in the network's early features, is StableFDG's (arXiv 2311.00227).

Deviations: CCST restyles images once, before training, in the features of a pretrained VGG with a decoder; here no
pretrained network is needed, the bank follows the model from round to round and styles are a round old. Channels are
drawn independently. mu(x) and sigma(x) carry no gradient and count valid pixels only; what is not valid keeps its
values. The first round, having no bank, is FedAvg's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Batch, StyleAugmentation
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.style import exchange_moments, require_probability
from fedlight.statistics import channel_moments, valid_at
from fedlight.update import Broadcast, RoundContext

log = logging.getLogger("fedlight")


class AdaIN(StyleAugmentation):
    """Restyles images with the feature statistics that other sites share.

    Args:
        p: Probability that an image is restyled; 0 gives FedAvg.
        stages: Where; "input" exchanges the statistics of the channels of the image itself, which does nothing for
            images that are standardised one by one.
        spread: How far styles are drawn around a site's mean style; 0 takes the mean style itself.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self, p: float = 0.5, stages: Sequence[str] = ("encoder1",), spread: float = 1.0, min_images: int = 5
    ) -> None:
        self.p = p
        self.stages = stages
        self.spread = spread
        self.min_images = min_images

    def validate(self) -> None:
        require_probability(self.p)
        if self.spread < 0:
            raise ValueError(f"spread must not be negative, got {self.spread}. 0 takes every site's mean style.")
        if self.min_images < 1:
            raise ValueError(f"min_images must be at least 1, got {self.min_images}. The default is 5.")
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
        mean, variance = channel_moments(x.detach(), batch["valid"])
        self._measure(stage, mean, variance, batch["case"])
        if not bool(self._chosen.any()):
            return x
        self._clean = self._clean & ~self._chosen
        new_mean, new_std = (style.to(x.device) for style in self._draw(stage))
        styled = exchange_moments(x, mean, variance, new_mean, new_std.square())
        inside = valid_at(batch["valid"], (x.shape[-2], x.shape[-1])).bool()
        return torch.where(inside & self._chosen[:, None, None, None].to(x.device), styled, x)

    def _measure(self, stage: str, mean: Tensor, variance: Tensor, cases: Sequence[str]) -> None:
        self._seen[stage].append(torch.stack([mean, variance.sqrt()], 1).flatten(2)[self._clean.to(mean.device)])
        self._cases[stage].update(case for case, clean in zip(cases, self._clean.tolist(), strict=True) if clean)

    def _draw(self, stage: str) -> tuple[Tensor, Tensor]:
        styles = torch.stack([self._bank[f"{donor}/{stage}"].cpu() for donor in self._donors])  # (sites, 4, C)
        center, deviation = styles[self._donor, :2], styles[self._donor, 2:]  # (N, 2, C), of mu and sigma
        noise = torch.randn(center.shape, generator=self.generator)
        mean, std = (center + self.spread * noise * deviation)[..., None, None].unbind(1)
        return mean, std.clamp_min(0)

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._bank = self._seen, {}, {}
        return {
            stage: _summary(torch.cat(images))
            for stage, images in seen.items()
            if images and len(self._cases[stage]) >= self.min_images
        }

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._fresh: dict[str, Tensor] = {}

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._fresh.update({f"{site}/{stage}": style for stage, style in shared.items()})

    def finish(self) -> Statistics:
        if self.p and not self._fresh and not self._previous:
            log.warning("AdaIN has no style to offer: no site saw %d different images (min_images)", self.min_images)
        return {**self._previous, **self._fresh}


def _summary(images: Tensor) -> Tensor:
    """Returns mean of mu, mean of sigma, deviation of mu and of sigma over images: (n, 2, C) to (4, C)."""
    return torch.cat([images.mean(0), images.std(0, unbiased=False)]).cpu()
