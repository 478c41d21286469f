"""CORAL: feature covariances of every site agree with the federation's (Sun and Saenko, arXiv 1607.01719, equation 1).

Sites whose features have the same mean and covariance look alike to the layers above. Every site shares these moments
of a round, the server fuses them into those of all sites together, and the sites pull their batches towards them.

    at the sites    l = F_k(w) + weight r_t sum_stages ( ||m_B - m||^2 / d + ||C_B - C||_F^2 / (4 d^2) )
    at the server   m = sum_k p_k m_k        C = sum_k p_k ( C_k + (m_k - m)(m_k - m)^T )

m_B (d) and C_B (d x d) are mean and covariance over the valid places of a batch's features, m_k and C_k those of all
that site k saw in a round, m and C the reference: of the round before, without gradient. r_t is the ramp.

Shared: per stage, mean and covariance of a site's features over a round, 4 (d + d^2) bytes; the default network's
bottleneck (d = 128) makes 66048 bytes up and 66048 down with four sites, 1 KB each with ``shrinkage`` 1. Privacy:
second moments of features over a site's images of a round, nothing of a single image unless there is one. Secure
aggregation: yes, p_k (m_k, C_k + m_k m_k^T) are summed. Cost: 1.05 times FedAvg's time at the bottleneck. Settings that
matter: ``weight``, ``stages`` (deep ones), ``shrinkage`` where a batch has fewer places than channels.

Released code: FedDG_Benchmark resets its penalty to 0 in every step, by a loop's else.

Deviations: the paper compares a batch of one domain with one of another; here it is with the federation's moments,
because no site may see another's features. The term of the means is DomainBed's (arXiv 2007.01434), scaled by d;
``variant: paper`` leaves it out. DomainBed also divides the covariances by d^2 instead of 4 d^2, which is ``variant:
domainbed``. Covariances are divided by n and not n - 1 places. ``shrinkage`` s replaces C by (1 - s) C + s diag(C) on
both sides. FedAvgAlign is the diagonal form, and an aggregator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Alignment, Step
from fedlight.plugins.alignment import full_precision, places, require_weight
from fedlight.plugins.alignment import ramp as ramped
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.moments import FusedMoments, fuse
from fedlight.update import Broadcast

Variant = Literal["federated", "paper", "domainbed"]


class CORAL(FusedMoments, Alignment):
    """Pulls feature means and covariances towards those of all sites.

    Args:
        weight: Strength of the alignment; 0 gives FedAvg.
        ramp: Share of the rounds over which the strength grows from 0 to ``weight``.
        stages: Where features are aligned.
        shrinkage: How far covariances are shrunk to their diagonal: 0 takes them whole, as in the paper, 1 compares
            and shares variances only.
        variant: "federated" is the formula above, "paper" leaves out the means, "domainbed" divides covariances by d^2.
    """

    example_independent = False
    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def __init__(
        self,
        weight: float = 0.1,
        ramp: float = 0.1,
        stages: Sequence[str] = ("bottleneck",),
        shrinkage: float = 0.0,
        variant: Variant = "federated",
    ) -> None:
        self.weight = weight
        self.ramp = ramp
        self.stages = stages
        self.shrinkage = shrinkage
        self.variant: Variant = variant

    def validate(self) -> None:
        require_weight(self.weight, self.ramp)
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must be in [0, 1], got {self.shrinkage}. To align variances only, use 1.")

    def active(self) -> bool:
        return self.weight > 0

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._strength = self.weight * ramped(broadcast.context, self.ramp)
        self._reference = broadcast.shared.get(self.instance_id, {})
        self._seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def penalty(self, step: Step) -> Tensor | None:
        if not self.weight or not bool(step.valid.any()):
            return None
        distances = []
        for stage in self.stages:
            with full_precision(step.images):
                count, mean, spread = moments(*places(step.features[stage], step.valid), diagonal=self.shrinkage == 1)
            self._see(stage, count, mean.detach(), spread.detach())
            if f"{stage}/mean" in self._reference:
                to_mean, to_spread = (self._reference[f"{stage}/{name}"].to(mean.device) for name in ("mean", "spread"))
                distances.append(distance(mean, spread, to_mean, to_spread, self.shrinkage, self.variant))
        return self._strength * torch.stack(distances).sum() if distances else None

    def _see(self, stage: str, *batch: Tensor) -> None:
        both = [batch] if stage not in self._seen else [self._seen[stage], batch]
        counts, means, spreads = (torch.stack(values) for values in zip(*both, strict=True))
        self._seen[stage] = (counts.sum(), *fuse(counts, means, spreads))

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._reference = self._seen, {}, {}
        means = {f"{stage}/mean": mean.cpu() for stage, (_, mean, _) in seen.items()}
        return means | {f"{stage}/spread": spread.cpu() for stage, (_, _, spread) in seen.items()}


def moments(rows: Tensor, weights: Tensor, diagonal: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Returns number (), mean (d,) and biased covariance (d, d) of weighted rows (n, d); or their variance (d,)."""
    count = weights.sum()
    mean = weights @ rows / count
    centred = (rows - mean) * weights[:, None].sqrt()
    spread = centred.square().sum(0) if diagonal else centred.T @ centred
    return count, mean, spread / count


def distance(
    mean: Tensor,
    spread: Tensor,
    reference_mean: Tensor,
    reference_spread: Tensor,
    shrinkage: float = 0.0,
    variant: Variant = "federated",
) -> Tensor:
    """Returns ||mean difference||^2 / d + ||covariance difference||_F^2 / (4 d^2), with shrunk covariances.

    "paper" has no means; "domainbed" has d^2 in place of 4 d^2.
    """
    d = mean.numel()
    apart = spread - reference_spread
    if apart.ndim == 2 and shrinkage:
        apart = (1 - shrinkage) * apart + shrinkage * torch.diag(apart.diagonal())
    of_spreads = apart.square().sum() / (d**2 if variant == "domainbed" else 4 * d**2)
    return of_spreads if variant == "paper" else (mean - reference_mean).square().sum() / d + of_spreads
