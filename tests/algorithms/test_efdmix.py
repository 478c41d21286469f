"""EFDMix: ranks, the mixture, its gradient and unequal numbers of valid pixels."""

from __future__ import annotations

import pytest
import torch
from fedlight_algorithms import EFDMix
from fedlight_algorithms.efdmix import match, mix
from torch import Tensor

SWAP = torch.tensor([1, 0])


def shares(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None]


def matched(first: list[float], second: list[float], inside: list[list[bool]] | None = None) -> list[float]:
    """What a first channel becomes with a second as its partner."""
    x = torch.tensor([[first], [second]])
    valid = torch.ones(2, 1, len(first), dtype=torch.bool) if inside is None else torch.tensor(inside)[:, None]
    return match(x, valid, SWAP)[0, 0].tolist()


def test_values_take_the_partners_of_the_same_rank() -> None:
    """3, 1, 2 have the ranks 2, 0, 1, so with 20, 60, 10 they become 60, 10, 20."""
    assert matched([3.0, 1.0, 2.0], [20.0, 60.0, 10.0]) == [60.0, 10.0, 20.0]


def test_equal_values_are_told_apart_by_their_place() -> None:
    """Of 0, 5, 0, 0 the zeros have the ranks 0, 1 and 2 from left to right."""
    assert matched([0.0, 5.0, 0.0, 0.0], [4.0, 3.0, 2.0, 1.0]) == [1.0, 4.0, 2.0, 3.0]


def test_features_are_mixed_as_in_the_paper() -> None:
    """Image 1 at lambda 0.25: (3, 1) with (60, 10) is 0.25 (3, 1) + 0.75 (60, 10); image 2 at lambda 1 stays."""
    x = torch.tensor([[3.0, 1.0], [10.0, 60.0]]).view(2, 1, 1, 2)
    mixture = mix(x, torch.ones(2, 1, 2, dtype=torch.bool), shares(0.25, 1.0), SWAP)
    assert mixture.flatten(1).tolist() == [[45.75, 7.75], [10.0, 60.0]]


def test_the_distribution_becomes_exactly_the_partners() -> None:
    """Every channel holds the partner's values and no other, zeros of a ReLU included."""
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0)).relu()
    after = match(x, torch.ones(2, 1, 64, dtype=torch.bool), SWAP)
    assert torch.equal(after.sort().values, x[SWAP].sort().values)


def test_the_gradient_passes_as_if_nothing_had_been_done() -> None:
    x = torch.tensor([[3.0, 1.0], [10.0, 60.0]]).view(2, 1, 1, 2).requires_grad_()
    torch.autograd.backward(mix(x, torch.ones(2, 1, 2, dtype=torch.bool), shares(0.25, 0.5), SWAP).sum())
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1.0] * 4


def test_fewer_valid_pixels_are_spread_over_the_partners() -> None:
    """Ranks 0, 1, 2 of three are places 0, 2, 4 of five; 9 and 8 are not valid and have no say."""
    inside = [[True, True, True, False, False], [True] * 5]
    assert matched([3.0, 1.0, 2.0, 9.0, 8.0], [10.0, 20.0, 30.0, 40.0, 50.0], inside)[:3] == [50.0, 10.0, 30.0]


def test_more_valid_pixels_are_read_between_the_partners() -> None:
    """Ranks 0 to 4 of five are places 0, 1/2, 1, 3/2, 2 of the three valid ones, 10, 20 and 40."""
    inside = [[True] * 5, [True, True, False, True, False]]
    assert matched([1.0, 2.0, 3.0, 4.0, 5.0], [40.0, 10.0, 99.0, 20.0, -9.0], inside) == [10.0, 15.0, 20.0, 30.0, 40.0]


def test_a_single_valid_pixel_takes_the_least() -> None:
    """It has rank 0, and the other three are places without meaning."""
    assert matched([3.0, 0.0, 0.0], [7.0, 5.0, 6.0], [[True, False, False], [True] * 3])[0] == 5.0


@pytest.mark.parametrize(("first", "second"), [(7, 4096), (4096, 7), (3001, 4093)])
def test_whatever_the_numbers_of_valid_pixels_the_extremes_meet(first: int, second: int) -> None:
    """Rounding never reads behind the last valid value."""
    x = torch.rand(2, 1, 4096, generator=torch.Generator().manual_seed(0))
    inside = torch.arange(4096) < torch.tensor([[[first]], [[second]]])
    image, partner = match(x, inside, SWAP)[0, 0, :first], x[1, 0, :second]
    assert (image.min(), image.max()) == (partner.min(), partner.max())


def test_an_impossible_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be positive"):
        EFDMix(alpha=0.0).validate()
