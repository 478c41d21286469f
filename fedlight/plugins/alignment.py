"""Feature alignment: what its members share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fedlight.plugins.client_plugin import ClientPlugin
from fedlight.statistics import valid_at
from fedlight.update import RoundContext


class Alignment(ClientPlugin):
    """Pulls a site's features towards a reference that the federation learned in the round before."""

    kind: ClassVar[str] = "alignment"


def ramp(context: RoundContext, share: float) -> float:
    """Grows linearly from 0 in the first round to 1 after a share of the planned rounds, and stays there.

    A share of 0 gives 1 from the second round on; in the first there is no reference yet.
    """
    return min(1.0, context.progress / share) if share > 0 else float(context.round > 1)


def require_weight(weight: float, ramp: float) -> None:
    """Checks strength and ramp of an alignment.

    Raises:
        ValueError: If the weight is negative or the ramp is no share.
    """
    if not weight >= 0:
        raise ValueError(f"weight must not be negative, got {weight}. 0 gives FedAvg.")
    if not 0 <= ramp <= 1:
        raise ValueError(f"ramp must be a share of the rounds in [0, 1], got {ramp}. The default is 0.1.")


def full_precision(x: Tensor) -> torch.autocast:
    """Opens a block in which products of float32 stay float32, also in a step of half precision."""
    return torch.autocast(x.device.type, enabled=False)


def places(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Lays the places of a feature map out as rows.

    Args:
        x: (N, C, h, w), with gradient.
        valid: (N, H, W), bool; an image without any valid pixel does not count.

    Returns:
        Rows (n, C), float32, and what each counts for, (n,), 0 or 1.
    """
    weights = valid_at(valid, (x.shape[-2], x.shape[-1])) * valid.flatten(1).any(1)[:, None, None, None]
    return x.float().permute(0, 2, 3, 1).flatten(0, 2), weights.flatten()
