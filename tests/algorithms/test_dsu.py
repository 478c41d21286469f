"""DSU: the formula with biased and with unbiased variances, its gradient and what has no variance."""

from __future__ import annotations

import pytest
import torch
from fedlight_algorithms import DSU
from fedlight_algorithms.dsu import jitter
from torch import Tensor

from tests.algorithms.banks import flat_batch

X = torch.tensor([[0.0, 2.0], [4.0, 8.0]]).view(2, 1, 1, 2)
ALL = torch.ones(2, 1, 2, dtype=torch.bool)


def noise(first: tuple[float, float], second: tuple[float, float]) -> Tensor:
    """Of mu and sigma, for two images."""
    return torch.tensor([first, second]).view(2, 2, 1, 1, 1)


def test_statistics_are_drawn_as_in_the_paper() -> None:
    """Mu is 1 and 6 with batch variance 6.25, sigma 1 and 2 with 0.25: S_mu 2.5, S_sigma 0.5.

    Noise (1, 2) gives image 1 beta 3.5 and gamma 2, so -1 and 1 become 1.5 and 5.5. Noise (-1, -6) gives image 2
    beta 3.5 and gamma -1: upside down, 4.5 and 2.5.
    """
    drawn = jitter(X, ALL, noise((1, 2), (-1, -6)), eps=0.0)
    torch.testing.assert_close(drawn.flatten(1), torch.tensor([[1.5, 5.5], [4.5, 2.5]]))


def test_the_released_variances_are_unbiased() -> None:
    """Over pixels 2 and 8, so sigma is 2^0.5 and 8^0.5; over the batch 12.5 of mu and 1 of sigma.

    Noise (2 / 12.5^0.5, 2^0.5) gives image 1 beta 3 and gamma 8^0.5: twice as wide around 3, so 1 and 5.
    """
    drawn = jitter(X, ALL, noise((2 / 12.5**0.5, 2**0.5), (0, 0)), eps=0.0, unbiased=True)
    torch.testing.assert_close(drawn.flatten(1), torch.tensor([[1.0, 5.0], [4.0, 8.0]]))


def test_without_noise_nothing_changes() -> None:
    torch.testing.assert_close(jitter(X, ALL, torch.zeros(2, 2, 1, 1, 1), eps=1e-6), X)


def test_the_gradient_takes_statistics_as_constants() -> None:
    """Gamma / sigma: 2 / 1 in image 1 of the first example, -1 / 2 in image 2."""
    x = X.clone().requires_grad_()
    torch.autograd.backward(jitter(x, ALL, noise((1, 2), (-1, -6)), eps=0.0).sum())
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(1), torch.tensor([[2.0, 2.0], [-0.5, -0.5]]))


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_batch_without_spread_stays_as_it_is(unbiased: bool) -> None:
    """One image, or one with valid pixels beside one without."""
    one = X[:1]
    assert jitter(one, ALL[:1], torch.ones(1, 2, 1, 1, 1), 1e-6, unbiased) is one
    valid = torch.tensor([[[True, True]], [[False, False]]])
    assert jitter(X, valid, torch.ones(2, 2, 1, 1, 1), 1e-6, unbiased) is X


def test_an_image_without_a_valid_pixel_does_not_count() -> None:
    """It would be 99 throughout; S and the drawn images are those of the first example."""
    x = torch.cat([X, torch.full((1, 1, 1, 2), 99.0)])
    drawn = jitter(x, torch.cat([ALL, ~ALL[:1]]), torch.cat([noise((1, 2), (-1, -6)), torch.zeros(1, 2, 1, 1, 1)]), 0.0)
    torch.testing.assert_close(drawn[:2].flatten(1), torch.tensor([[1.5, 5.5], [4.5, 2.5]]))


@pytest.mark.parametrize("released", [False, True])
def test_one_valid_pixel_an_image_is_finite(released: bool) -> None:
    plugin = DSU(p=1, released=released)
    plugin.generator = torch.Generator().manual_seed(0)
    batch = {**flat_batch([[0.0, 2.0], [4.0, 8.0]]), "valid": torch.tensor([[[True, False]], [[False, True]]])}
    assert bool(plugin.restyle("input", batch["image"], batch).isfinite().all())  # type: ignore[arg-type]


def test_the_draws_have_the_spread_of_the_batch() -> None:
    """Half of 4000 images are (-1, 1), half (1, 3): S_mu is 1, so mu is 0 or 2 with deviation 1, five errors wide.

    All sigma are 1, so S_sigma is the root of eps, and they hardly change.
    """
    plugin = DSU(p=1)
    plugin.generator = torch.Generator().manual_seed(0)
    batch = flat_batch([[-1.0, 1.0], [1.0, 3.0]] * 2000)
    drawn = plugin.restyle("input", batch["image"], batch).view(2000, 2, 2)
    means = drawn.mean(-1)
    torch.testing.assert_close(means.mean(0), torch.tensor([0.0, 2.0]), rtol=0, atol=5 / 2000**0.5)
    torch.testing.assert_close(means.std(0), torch.ones(2), rtol=0, atol=5 / 4000**0.5)
    torch.testing.assert_close(drawn[..., 1] - drawn[..., 0], torch.full((2000, 2), 2.0), rtol=0, atol=0.02)
