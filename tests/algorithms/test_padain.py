"""PAdaIN: the swap, its gradient and its order."""

from __future__ import annotations

import torch
from fedlight_algorithms import PAdaIN
from fedlight_algorithms.padain import swap

from tests.algorithms.banks import flat_batch

X = torch.tensor([[0.0, 2.0], [10.0, 14.0], [5.0, 5.0]]).view(3, 1, 1, 2)
ALL = torch.ones(3, 1, 2, dtype=torch.bool)
PI = torch.tensor([1, 0, 2])


def test_images_swap_mean_and_deviation() -> None:
    """(0, 2) has mean 1 and deviation 1, (10, 14) has 12 and 2: two values take each other's place; 5, 5 stays."""
    swapped = swap(X, ALL, PI, eps=1e-12)
    torch.testing.assert_close(swapped.flatten(1), torch.tensor([[10.0, 14.0], [0.0, 2.0], [5.0, 5.0]]))


def test_the_gradient_takes_statistics_as_constants() -> None:
    """The ratios of deviations: 2 / 1, 1 / 2 and 1."""
    x = X.clone().requires_grad_()
    torch.autograd.backward(swap(x, ALL, PI, eps=1e-12).sum())
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(1), torch.tensor([[2.0, 2.0], [0.5, 0.5], [1.0, 1.0]]))


def test_styles_are_permuted_and_none_is_lost() -> None:
    """Images with means 1, 2, ..., 9 and deviation 1 have these means afterwards, in another order."""
    plugin = PAdaIN(p=1)
    plugin.generator = torch.Generator().manual_seed(0)
    batch = flat_batch([[float(mean), mean + 2.0] for mean in range(9)])
    means = plugin.restyle("input", batch["image"], batch).flatten(1).mean(1)
    torch.testing.assert_close(means.sort().values, torch.arange(1.0, 10.0))
    assert not torch.allclose(means, torch.arange(1.0, 10.0))


def test_by_default_one_batch_in_a_hundred_is_permuted() -> None:
    """Of 4000 batches 40 on average; five standard deviations are 31."""
    plugin, batch = PAdaIN(), flat_batch([[0.0, 2.0], [10.0, 14.0]])
    plugin.generator = torch.Generator().manual_seed(0)
    permuted = sum(plugin.restyle("input", batch["image"], batch) is not batch["image"] for _ in range(4000))
    assert 9 < permuted < 71
