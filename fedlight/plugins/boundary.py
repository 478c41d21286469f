"""The boundary of what is segmented, told from its surroundings: regions, their embeddings, and a contrast of both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def boundary_regions(mask: Tensor, contour: int, ring: int) -> Tensor:
    """Returns the contour (mask minus its erosion) and the ring around it (dilation minus mask).

    Args:
        mask: (N, 1, H, W), floating, 0 or 1.
        contour: Width of the contour in pixels.
        ring: Width of the ring in pixels.

    Returns:
        (2, N, 1, H, W), by kind: contour, ring; neighbourhoods are square.
    """
    eroded = -F.max_pool2d(-mask, 2 * contour + 1, stride=1, padding=contour)
    dilated = F.max_pool2d(mask, 2 * ring + 1, stride=1, padding=ring)
    return torch.stack([mask - eroded, dilated - mask])


def region_embeddings(features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean feature of every region that has pixels, in both styles, and its kind.

    Args:
        features: (2, N, C, h, w), float32, by style.
        regions: (2, N, 1, H, W), by kind: contour, ring.

    Returns:
        (M, C) float32 and (M,) int64.
    """
    size = (features.shape[-2], features.shape[-1])
    weights = torch.stack([F.adaptive_avg_pool2d(kind, size)[:, 0] for kind in regions])  # (2, N, h, w), by kind
    sums = torch.einsum("snchw,knhw->sknc", features, weights)
    counts = weights.sum((2, 3))  # (2, N)
    means = sums / counts[..., None].clamp_min(1e-12)
    kinds = torch.arange(2, device=counts.device)[:, None].expand_as(counts)
    there = (counts > 0).expand(2, -1, -1)  # (2, 2, N): style, kind, image
    return means[there], kinds.expand_as(there)[there]


def boundary_contrast(embeddings: Tensor, kinds: Tensor, tau: float) -> Tensor:
    """Returns the mean of InfoNCE over ordered pairs of one kind, against all of the other kind; 0 without a pair.

    Args:
        embeddings: (M, C).
        kinds: (M,), int64.
        tau: Temperature.
    """
    unit = F.normalize(embeddings, dim=1)
    similar = unit @ unit.T / tau  # (M, M)
    same = kinds[:, None] == kinds
    against = similar.masked_fill(same, -1e4).logsumexp(1, keepdim=True)  # (M, 1), over the other kind
    each = F.softplus(against - similar)  # - log e^s / (e^s + sum of the others)
    pairs = same & ~torch.eye(len(kinds), dtype=torch.bool, device=kinds.device)
    return (each * pairs).sum() / pairs.sum().clamp_min(1)
