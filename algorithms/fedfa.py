"""FedFA: federated feature augmentation (Zhou and Konukoglu, arXiv 2301.12995).

Feature statistics of an image are jittered, more where the images of a batch differ and most in the channels in which
the sites differ. How much sites differ in a channel is all that they learn of each other.

    mu^ = mu + eps_mu S_mu          sigma^ = sigma + eps_sigma S_sigma          eps ~ N(0, 1), one a channel and image
    S_mu^2  = (1 + gamma) var_batch(mu)       gamma = C u / sum_c u       u = 1 / (1 + 1/V)
    V       = variance over the sites k of m_k,                           m_k = running mean over batches of mean(mu)
    x'      = sigma^ (x - mu) / sigma + mu^                               sigma likewise with a V of its own

Shared: m_k for mu and sigma up, V for both down, 2 C numbers each way and stage; the defaults on plain-16 (16 + 32 +
128 channels) make 1408 bytes up and 1408 down with four sites. Privacy: running means over a site's batches; nothing is
sent before ``min_images`` images were seen. Secure aggregation: possible, the server needs sums of m_k and of m_k^2
only. Cost: two passes over three feature maps a step, 1.06 times FedAvg's time. Settings that matter: ``stages``,
``p``.

Released code: V is one number, the variance over sites and channels together, so gamma is 1 in every channel and the
method is DSU with twice the variance: ``released``. Variances are unbiased, so a batch of one is not a number, and the
running mean starts at 0 and hardly leaves it in short runs.

Deviations: the paper augments after all five stages of its encoder; every encoder has a first, a second and a last one,
which are the default. sigma^ stops at 0. mu, sigma and S carry no gradient and count valid pixels only, what is not
valid keeps its values. Variances are biased, and the running mean is divided by the weight that it has gathered. Before
there is a V, gamma is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Batch
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure, of_single_images, over_images
from fedlight.plugins.style import (
    StyleAugmentation,
    exchange_moments,
    require_min_images,
    require_probability,
    where_valid,
)
from fedlight.statistics import channel_moments
from fedlight.update import Broadcast, RoundContext


class FedFA(StyleAugmentation):
    """Jitters feature statistics as much as they differ between images and between sites.

    Args:
        p: Probability that a batch is augmented at a stage; 0 gives FedAvg.
        decay: Of the running mean over batches, in [0, 1).
        stages: Where features are augmented.
        released: Takes one V for all channels, as the authors' code does.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = False
    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self,
        p: float = 0.5,
        decay: float = 0.99,
        stages: Sequence[str] = ("encoder1", "encoder2", "bottleneck"),
        released: bool = False,
        min_images: int = 5,
    ) -> None:
        self.p = p
        self.decay = decay
        self.stages = stages
        self.released = released
        self.min_images = min_images
        self._running: dict[str, Tensor] = {}
        self._gathered: dict[str, float] = {}

    def validate(self) -> None:
        require_probability(self.p)
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}. The paper uses 0.99.")
        require_min_images(self.min_images)

    def discloses(self) -> Disclosure | None:
        if not self.p:
            return None
        return Disclosure(
            f"running means of channel means and spreads at {', '.join(self.stages)}",
            f"mean {over_images(self.min_images)}",
            of_single_images(self.min_images, "the style"),
        )

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._between = broadcast.shared.get(self.instance_id, {})
        self._cases: set[str] = set()

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        usable = batch["valid"].flatten(1).any(1)
        if not self.p or not bool(usable.any()):
            return x
        mean, variance = channel_moments(x.detach(), batch["valid"])
        style = torch.stack([mean, variance.sqrt()], 1).flatten(2)  # (N, 2, C)
        self._remember(stage, style[usable].mean(0).cpu())
        self._cases.update(case for case, fit in zip(batch["case"], usable.tolist(), strict=True) if fit)
        if torch.rand((), generator=self.generator) >= self.p:
            return x
        noise = torch.randn(style.shape, generator=self.generator).to(x.device)
        between = self._between.get(stage, torch.ones(style.shape[1:])).to(x.device)
        new_mean, new_std = jitter(style, style[usable], between, noise)[..., None, None].unbind(1)
        return where_valid(batch["valid"], exchange_moments(x, mean, variance, new_mean, new_std.square()), x)

    def _remember(self, stage: str, style: Tensor) -> None:
        running = self._running.get(stage, torch.zeros_like(style))
        self._running[stage] = self.decay * running + (1 - self.decay) * style
        self._gathered[stage] = self.decay * self._gathered.get(stage, 0.0) + (1 - self.decay)

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._between = {}
        if len(self._cases) < self.min_images:
            return {}
        return {stage: running / self._gathered[stage] for stage, running in self._running.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"running": dict(self._running), "gathered": dict(self._gathered)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._running, self._gathered = dict(state["running"]), dict(state["gathered"])

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._sites: list[Statistics] = []

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._sites.append(shared)

    def finish(self) -> Statistics:
        fresh = {
            stage: variance_between(torch.stack([shared[stage] for shared in self._sites]), self.released)
            for stage in self.stages
            if self._sites
        }
        return {**self._previous, **fresh}


def variance_between(means: Tensor, released: bool = False) -> Tensor:
    """Returns V, how much sites differ: (K, 2, C) to (2, C), of mu and sigma; ``released``: one for all channels."""
    if released:
        return means.var(dim=(0, 2), unbiased=False)[:, None].expand(means.shape[1:]).contiguous()
    return means.var(0, unbiased=False)


def jitter(style: Tensor, batch: Tensor, between: Tensor, noise: Tensor) -> Tensor:
    """Returns mu^ and sigma^.

    Args:
        style: (N, 2, C), mu and sigma of every image.
        batch: (n, 2, C), those of the images whose variance counts.
        between: (2, C), V.
        noise: (N, 2, C), standard normal.

    Returns:
        (N, 2, C), sigma^ at least 0.
    """
    u = between / (between + 1)  # 1 / (1 + 1/V), also for V = 0
    gamma = u.shape[-1] * u / u.sum(-1, keepdim=True).clamp_min(1e-12)
    scope = ((1 + gamma) * batch.var(0, unbiased=False)).sqrt()
    mean, std = (style + noise * scope).unbind(1)
    return torch.stack([mean, std.clamp_min(0)], 1)
