"""FedAvgAlign: FedAvg, and features that agree with the federation's (after Sun and Saenko, arXiv 1607.01719).

CORAL in moment form: every site shares mean and variance of its features, the server fuses them, and the sites pull
their batches towards those of all sites together. One name in a config switches on both halves.

    at the sites    l = F_k(w) + weight r_t sum_stages ( ||m_B - m||^2 / d + ||s_B - s||^2 / (4 d^2) )
    at the server   m = sum_k p_k m_k        s = sum_k p_k (s_k + (m_k - m)^2)        w as in FedAvg

m_B and s_B (both in R^d) are mean and variance per channel of the features of a batch, m_k and s_k those of all that
site k saw in a round, m and s the reference: the moments of all sites together by the law of total variance, from the
round before, without gradient. r_t is the ramp, 0 in the first round.

Shared: per stage, mean and variance of every channel over a round, 8 d bytes; the default network's bottleneck (d =
128) makes 1024 bytes up and 1024 down with four sites. Privacy: moments of features over a site's images of a round,
nothing of a single image unless there is one. Secure aggregation: yes, p_k m_k and p_k (s_k + m_k^2) are summed, as the
parameters are. Cost: 1.00 times FedAvg's time at the bottleneck. Settings that matter: ``weight``, ``ramp``, and
``stages`` (deep ones).

Deviations: the second term is Deep CORAL's (equation 1) with two changes: the covariance is diagonal, because a batch
has fewer images than channels, and the distance is to the federation's moments instead of a target batch. The first
term, on the means, is scaled by d as in DomainBed (arXiv 2007.01434). Moments count valid pixels only and are those of
the training passes, so restyled where a style plugin works, and from parameters that move during the round: no extra
pass over the data is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Alignment, Step
from fedlight.plugins.alignment import ramp as ramped
from fedlight.plugins.alignment import require_weight
from fedlight.plugins.averaging import AveragingAggregator
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.moments import FusedMoments
from fedlight.state import State
from fedlight.statistics import fuse_moments, valid_at
from fedlight.update import Broadcast


class _Settings:
    """The arguments of both halves."""

    def __init__(self, weight: float = 0.1, ramp: float = 0.1, stages: Sequence[str] = ("bottleneck",)) -> None:
        self.weight = weight
        self.ramp = ramp
        self.stages = stages


class FedAvgAlign(_Settings, AveragingAggregator):
    """Averages the sites' parameters and aligns their features with the federation's moments.

    Args:
        weight: Strength of the alignment; 0 gives FedAvg.
        ramp: Share of the rounds over which the strength grows from 0 to ``weight``.
        stages: Where features are aligned.
    """

    linear = True
    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def validate(self) -> None:
        self.client_half().validate()

    def client_half(self) -> MomentAlignment:
        return MomentAlignment(self.weight, self.ramp, self.stages)

    def step(self, start: State, mean: State) -> State:
        return mean


class MomentAlignment(_Settings, FusedMoments, Alignment):
    """Pulls feature means and variances towards those of all sites; the client's half of FedAvgAlign.

    Args:
        weight: Strength of the alignment; 0 gives FedAvg.
        ramp: Share of the rounds over which the strength grows from 0 to ``weight``.
        stages: Where features are aligned.
    """

    example_independent = False
    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def validate(self) -> None:
        require_weight(self.weight, self.ramp)

    def active(self) -> bool:
        return self.weight > 0

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._strength = self.weight * ramped(broadcast.context, self.ramp)
        self._reference = broadcast.shared.get(self.instance_id, {})
        self._seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {stage: [] for stage in self.stages}

    def penalty(self, step: Step) -> Tensor | None:
        if not self.weight or not bool(step.valid.any()):
            return None
        distances = []
        for stage in self.stages:
            count, mean, variance = batch_moments(step.features[stage], step.valid)
            self._seen[stage].append((count, mean.detach(), variance.detach()))
            if f"{stage}/mean" in self._reference:
                reference = (self._reference[f"{stage}/{name}"].to(mean.device) for name in ("mean", "spread"))
                distances.append(distance(mean, variance, *reference))
        return self._strength * torch.stack(distances).sum() if distances else None

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._reference = self._seen, {}, {}
        shared: dict[str, Tensor] = {}
        for stage, moments in seen.items():
            if moments:
                counts, means, variances = (torch.stack(values) for values in zip(*moments, strict=True))
                mean, variance = fuse_moments(counts, means, variances)
                shared |= {f"{stage}/mean": mean.cpu(), f"{stage}/spread": variance.cpu()}
        return shared


def batch_moments(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the number of valid places of a batch, and mean and biased variance of every channel over them.

    Args:
        x: (N, C, h, w), with gradient.
        valid: (N, H, W), bool; an image without any valid pixel does not count.

    Returns:
        Count (), mean (C,) and variance (C,), float32.
    """
    counts_at_all = valid.flatten(1).any(1)[:, None, None, None]
    weights = valid_at(valid, (x.shape[-2], x.shape[-1])) * counts_at_all  # (N, 1, h, w)
    count = weights.sum()
    mean = (x.float() * weights).sum(dim=(0, 2, 3)) / count
    variance = ((x.float() - mean[:, None, None]).square() * weights).sum(dim=(0, 2, 3)) / count
    return count, mean, variance


def distance(mean: Tensor, variance: Tensor, reference_mean: Tensor, reference_variance: Tensor) -> Tensor:
    """Returns ||mean difference||^2 / d + ||variance difference||^2 / (4 d^2); all arguments are (d,)."""
    d = mean.numel()
    means = (mean - reference_mean).square().sum() / d
    return means + (variance - reference_variance).square().sum() / (4 * d**2)
