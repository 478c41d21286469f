"""TriD: the formula, its gradient and the law of its draws."""

from __future__ import annotations

import torch
from fedlight_algorithms import TriD
from fedlight_algorithms.trid import randomise
from torch import Tensor

from tests.algorithms.banks import flat_batch

X = torch.tensor([[0.0, 2.0], [10.0, 14.0]]).view(1, 2, 1, 2)  # two channels of an image


def each(first: float, second: float) -> Tensor:
    """A number a channel, (1, 2, 1, 1)."""
    return torch.tensor([first, second]).view(1, 2, 1, 1)


def randomised(x: Tensor) -> Tensor:
    """Mean 0.25 and deviation 0.5 for the first channel only."""
    chosen = torch.tensor([True, False]).view(1, 2, 1, 1)
    return randomise(x, each(1, 12), each(1, 2), each(0.25, 0.75), each(0.5, 0.9), chosen)


def test_chosen_channels_get_drawn_statistics() -> None:
    """(0, 2) has mean 1 and deviation 1: it becomes 0.25 - 0.5 and 0.25 + 0.5. The other channel stays."""
    assert randomised(X)[0].flatten(1).tolist() == [[-0.25, 0.75], [10.0, 14.0]]


def test_the_gradient_takes_statistics_as_constants() -> None:
    """0.5 / 1 in the chosen channel, 1 in the other."""
    x = X.clone().requires_grad_()
    torch.autograd.backward(randomised(x).sum())
    assert x.grad is not None
    assert x.grad[0].flatten(1).tolist() == [[0.5, 0.5], [1.0, 1.0]]


def test_half_of_the_channels_get_uniform_statistics() -> None:
    """4000 images of mean 101 and deviation 1: 2000 are chosen on average, to within five deviations of 32.

    Their means and deviations are uniform in [0, 1], with mean 1/2 and variance 1/12.
    """
    plugin = TriD(p=1)
    plugin.generator = torch.Generator().manual_seed(0)
    batch = flat_batch([[100.0, 102.0]] * 4000)
    after = plugin.restyle("input", batch["image"], batch).flatten(1)
    chosen = after[after.mean(1) < 50]
    assert 2000 - 160 < len(chosen) < 2000 + 160
    for drawn in (chosen.mean(1), chosen.std(1, unbiased=False)):
        assert bool(((drawn >= -1e-4) & (drawn <= 1 + 1e-4)).all())
        torch.testing.assert_close(drawn.mean(), torch.tensor(0.5), rtol=0, atol=5 * (1 / 12 / 1840) ** 0.5)
        torch.testing.assert_close(drawn.var(), torch.tensor(1 / 12), rtol=0, atol=0.02)
    torch.testing.assert_close(after[after.mean(1) > 50], torch.tensor([100.0, 102.0]).expand(4000 - len(chosen), 2))


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    assert TriD.example_independent
