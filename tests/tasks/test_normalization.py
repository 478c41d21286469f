"""Claims about GroupNorm in place of BatchNorm."""

import pytest
import torch
from torch import nn

from fedlight.tasks.normalization import group_count, use_group_norm


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (7, 7), (11, 1), (12, 6), (16, 8), (24, 8), (40, 8), (1280, 8)]
)
def test_groups_divide_the_width(channels: int, groups: int) -> None:
    assert group_count(channels) == groups


def test_affine_weights_are_carried_over() -> None:
    norm = nn.BatchNorm2d(16, eps=1e-3)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    network = nn.Sequential(nn.Sequential(norm))
    use_group_norm(network)
    new = network.get_submodule("0.0")
    assert isinstance(new, nn.GroupNorm)
    assert torch.equal(new.weight, norm.weight)
    assert torch.equal(new.bias, norm.bias)
    assert new.eps == 1e-3


def test_fused_activation_is_kept() -> None:
    """GroupNorm of two equal values is 0 and the bias -1 is cut off by the ReLU: without it the result would be -1."""
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(8)
    nn.init.constant_(norm.bias, -1.0)
    network = nn.Sequential(norm)
    use_group_norm(network)
    assert isinstance(network[0], nn.GroupNorm)
    assert torch.equal(network(torch.ones(1, 8, 2, 2)), torch.zeros(1, 8, 2, 2))


def test_mode_is_kept() -> None:
    network = nn.Sequential(nn.BatchNorm2d(8)).eval()
    use_group_norm(network)
    assert not network[0].training


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), nn.InstanceNorm2d(4, track_running_stats=True), nn.SyncBatchNorm(4)]
)
def test_running_statistics_that_are_not_understood_are_refused(norm: nn.Module) -> None:
    with pytest.raises(ValueError, match=type(norm).__name__):
        use_group_norm(nn.Sequential(norm))
