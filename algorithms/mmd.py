"""MMD: feature distributions agree in all moments, through random Fourier features (Li et al., CVPR 2018).

The maximum mean discrepancy compares whole distributions with kernels. A mean of random Fourier features (Rahimi and
Recht, NeurIPS 2007) stands for a distribution in a few hundred numbers, so the federation can average it.

    phi(x) = [cos(x Omega), sin(x Omega)] / sqrt(D)      phi(x) phi(y) ~ mean over gamma of exp(-gamma ||x - y||^2)
    at the sites    l = F_k(w) + weight r_t sum_stages || mean_B phi - phi_bar ||^2
    at the server   phi_bar = sum_k p_k mean_k phi       of the round before, without gradient

Omega (d x D) has columns of N(0, 2 gamma), gamma going round DomainBed's seven bandwidths (arXiv 2007.01434); it is
drawn from the run's seed, the same at every site and in every round. Means are over valid places. r_t is the ramp.

Shared: per stage, the mean of a site's random Fourier features over a round, 8 D bytes, whatever the network; 256
frequencies make 2048 bytes up and 2048 down with four sites. Privacy: a mean over a site's images of a round; with few
images it tells their features. Secure aggregation: yes, a weighted sum. Cost: 1.00 times FedAvg's time at the
bottleneck; an early stage has many places, each with D products of d. Settings that matter: ``weight``, ``gammas``
(squared distances of features grow with d).

Released code: FedDG_Benchmark resets its penalty to 0 in every step, by a loop's else.

Deviations: DomainBed sums its kernels and compares two domains' batches; this averages the kernels, a factor of 7 in
weight, and compares a batch with the federation. As in DomainBed the estimate is the biased one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Alignment, Step
from fedlight.plugins.alignment import full_precision, places, require_weight
from fedlight.plugins.alignment import ramp as ramped
from fedlight.plugins.averaging import AveragingPlugin
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.randomness import generator
from fedlight.update import Broadcast


class MMD(AveragingPlugin, Alignment):
    """Pulls the distribution of features towards that of all sites.

    Args:
        weight: Strength of the alignment; 0 gives FedAvg.
        ramp: Share of the rounds over which the strength grows from 0 to ``weight``.
        stages: Where features are aligned.
        frequencies: Number D of random frequencies; the estimate's error falls with its root.
        gammas: Bandwidths of the Gaussian kernels.
    """

    example_independent = False
    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def __init__(
        self,
        weight: float = 1.0,
        ramp: float = 0.1,
        stages: Sequence[str] = ("bottleneck",),
        frequencies: int = 256,
        gammas: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3),
    ) -> None:
        self.weight = weight
        self.ramp = ramp
        self.stages = stages
        self.frequencies = frequencies
        self.gammas = gammas

    def validate(self) -> None:
        require_weight(self.weight, self.ramp)
        if self.frequencies < 1:
            raise ValueError(f"frequencies must be at least 1, got {self.frequencies}. The default is 256.")
        if not self.gammas or not min(self.gammas) > 0:
            raise ValueError(f"gammas must be positive, got {list(self.gammas)}. DomainBed uses 0.001 to 1000.")

    def discloses(self) -> Disclosure | None:
        if not self.weight:
            return None
        return Disclosure(
            f"mean random Fourier features at {', '.join(self.stages)}",
            "mean over the places of all images that the site saw in a round, however few",
        )

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._strength = self.weight * ramped(broadcast.context, self.ramp)
        self._seed = broadcast.context.seed
        self._reference = broadcast.shared.get(self.instance_id, {})
        self._omega: dict[str, Tensor] = {}
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {stage: [] for stage in self.stages}

    def penalty(self, step: Step) -> Tensor | None:
        if not self.weight or not bool(step.valid.any()):
            return None
        distances = []
        for stage in self.stages:
            with full_precision(step.images):
                rows, weights = places(step.features[stage], step.valid)
                embedding = embed(rows, weights, self._frequencies(stage, rows))
            self._seen[stage].append((weights.sum(), embedding.detach()))
            if stage in self._reference:
                distances.append((embedding - self._reference[stage].to(rows.device)).square().sum())
        return self._strength * torch.stack(distances).sum() if distances else None

    def _frequencies(self, stage: str, rows: Tensor) -> Tensor:
        if stage not in self._omega:
            stream = generator(self._seed, self.instance_id, "frequencies", stage)
            omega = frequencies(rows.shape[1], self.frequencies, self.gammas, stream)
            self._omega[stage] = omega.to(rows.device)
        return self._omega[stage]

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._omega, self._reference = self._seen, {}, {}, {}
        shared = {}
        for stage, batches in seen.items():
            if batches:
                counts, embeddings = (torch.stack(values) for values in zip(*batches, strict=True))
                shared[stage] = (counts @ embeddings / counts.sum()).cpu()
        return shared


def frequencies(d: int, number: int, gammas: Sequence[float], stream: torch.Generator) -> Tensor:
    """Draws Omega (d, number); the standard deviation of a column is sqrt(2 gamma)."""
    deviations = torch.tensor([math.sqrt(2 * gammas[index % len(gammas)]) for index in range(number)])
    return deviations * torch.randn(d, number, generator=stream)


def embed(rows: Tensor, weights: Tensor, omega: Tensor) -> Tensor:
    """Returns the weighted mean of phi over rows (n, d): (2 D,)."""
    angles = rows @ omega  # (n, D)
    share = weights / weights.sum()
    return torch.cat([share @ angles.cos(), share @ angles.sin()]) / math.sqrt(omega.shape[1])
