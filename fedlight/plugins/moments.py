"""Moments of features that sites share and the server fuses into those of all sites together."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlight.plugins.client_plugin import ClientPlugin, Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.statistics import fuse_covariances, fuse_moments
from fedlight.update import RoundContext


class FusedMoments(ClientPlugin):
    """Sends every site the federation's moments at each stage: "<stage>/mean" and "<stage>/spread".

    Sites share theirs under the same names. A stage keeps its moments where no site shared any.
    """

    linear = True

    def discloses(self) -> Disclosure | None:
        if not self.active():
            return None
        return Disclosure(
            f"means and spreads of features at {', '.join(self.stages)}",
            "over the places of all images that the site saw in a round, however few",
        )

    def active(self) -> bool:
        """Says whether sites share anything at all."""
        return True

    def summand(self, shared: Statistics, weight: float, reference: Statistics) -> tuple[Statistics, float]:
        """Second moments in place of spreads, about the reference, so that large means swallow nothing."""
        summed: dict[str, Tensor] = {}
        for stage in [name.removesuffix("/mean") for name in shared if name.endswith("/mean")]:
            mean = shared[f"{stage}/mean"].double()
            mean = mean - reference.get(f"{stage}/mean", torch.zeros_like(mean)).double()
            spread = shared[f"{stage}/spread"].double()
            summed |= {f"{stage}/mean": mean, f"{stage}/spread": spread + _square(mean, spread.ndim)}
        return summed, weight

    def of_mean(self, mean: Statistics, total: float, reference: Statistics) -> Statistics:
        shared: dict[str, Tensor] = {}
        for stage in [name.removesuffix("/mean") for name in mean if name.endswith("/mean")]:
            center, second = mean[f"{stage}/mean"], mean[f"{stage}/spread"]
            shift = reference.get(f"{stage}/mean", torch.zeros_like(center)).double()
            shared |= {f"{stage}/mean": center + shift, f"{stage}/spread": second - _square(center, second.ndim)}
        return shared

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._weights = context.weights
        self._sites: list[tuple[float, Statistics]] = []

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._sites.append((float(self._weights[site]), shared))

    def finish(self) -> Statistics:
        fused = dict(self._previous)
        for stage in self.stages if self._sites else ():
            weights = torch.tensor([weight for weight, _ in self._sites])
            means, spreads = (
                torch.stack([shared[f"{stage}/{name}"] for _, shared in self._sites]) for name in ("mean", "spread")
            )
            fused[f"{stage}/mean"], fused[f"{stage}/spread"] = fuse(weights, means, spreads)
        return fused


def fuse(counts: Tensor, means: Tensor, spreads: Tensor) -> tuple[Tensor, Tensor]:
    """Fuses means (K, d) and variances (K, d) or covariances (K, d, d) of K groups by their weights (K,)."""
    return (fuse_moments if spreads.ndim == 2 else fuse_covariances)(counts, means, spreads)


def _square(mean: Tensor, dimensions: int) -> Tensor:
    """Returns mean^2 as (d,) or mean mean^T as (d, d)."""
    return mean.square() if dimensions == 1 else mean[:, None] * mean[None, :]
