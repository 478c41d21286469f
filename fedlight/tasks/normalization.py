"""GroupNorm instead of BatchNorm, over a whole network.

GroupNorm keeps no running statistics: there is nothing to average between sites, an unseen site is well defined and
example-level differential privacy works.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MAX_GROUPS = 8


class GroupNormAct(nn.GroupNorm):
    """GroupNorm with the dropout and the activation that a fused layer had (timm's ``BatchNormAct2d``)."""

    def __init__(self, groups: int, channels: int, eps: float, affine: bool, drop: nn.Module, act: nn.Module) -> None:
        super().__init__(groups, channels, eps=eps, affine=affine)
        self.drop = drop
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Normalises, then applies the dropout and the activation of the layer that this one replaces."""
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


def group_count(channels: int) -> int:
    """Returns the largest number of groups, at most 8, that divides a width.

    >>> [group_count(channels) for channels in (16, 12, 7, 11)]
    [8, 6, 7, 1]
    """
    return max(groups for groups in range(1, MAX_GROUPS + 1) if channels % groups == 0)


def use_group_norm(network: nn.Module) -> None:
    """Replaces every BatchNorm of a network by GroupNorm, in place, with the affine weights carried over.

    Raises:
        ValueError: If a normalisation with running statistics is left that this function does not understand.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _group_norm(child))
    _refuse_running_statistics(network)


def _group_norm(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    """Returns the GroupNorm that stands in for one BatchNorm."""
    groups, channels = group_count(norm.num_features), norm.num_features
    act: Any = getattr(norm, "act", None)
    new: nn.GroupNorm
    if type(norm) is nn.BatchNorm2d:
        new = nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine)
    elif isinstance(act, nn.Module):  # timm.layers.BatchNormAct2d
        drop: Any = getattr(norm, "drop", nn.Identity())
        new = GroupNormAct(groups, channels, norm.eps, norm.affine, drop, act)
    else:
        raise ValueError(_refusal(type(norm).__name__))
    if norm.affine:
        _copy(norm, new)
    return new.train(norm.training)


@torch.no_grad()
def _copy(source: nn.BatchNorm2d, target: nn.GroupNorm) -> None:
    for name, parameter in target.named_parameters(recurse=False):
        parameter.copy_(source.get_parameter(name))
        parameter.requires_grad_(source.get_parameter(name).requires_grad)


def _refuse_running_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False)):
            raise ValueError(_refusal(type(module).__name__))


def _refusal(kind: str) -> str:
    return (
        f"norm must be batch for an encoder that normalises with {kind}: only BatchNorm2d and timm's fused "
        "BatchNormAct2d can become GroupNorm. Choose another encoder or norm: batch."
    )
