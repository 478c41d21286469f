"""Random numbers that nobody can repeat."""

from __future__ import annotations

import math

import torch

from fedlight.privacy import secret


def test_box_muller_by_hand() -> None:
    """u1 = 1 - exp(-2) has radius 2; u2 = 0, 1/4 are angles 0 and 90 degrees: (2, 0) and (0, 2)."""
    first = torch.full((2,), 1 - math.exp(-2), dtype=torch.float64)
    second = torch.tensor([0.0, 0.25], dtype=torch.float64)
    expected = torch.tensor([2.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(secret.box_muller(first, second), expected, atol=1e-12, rtol=0)


def test_uniform_numbers_are_spread_over_the_unit_interval() -> None:
    """Of 40 000: mean 1/2 and variance 1/12; bounds are eight standard errors wide."""
    drawn = secret.uniform(40_000)
    assert drawn.dtype == torch.float64
    assert 0 <= float(drawn.min()) < 0.01
    assert 0.99 < float(drawn.max()) < 1
    assert abs(float(drawn.mean()) - 0.5) < 8 * (1 / 12 / 40_000) ** 0.5
    assert abs(float(drawn.var()) - 1 / 12) < 8 * (1 / 180 / 40_000) ** 0.5


def test_normal_numbers_have_the_moments_of_a_normal() -> None:
    """Of n = 40 000, eight standard errors: mean 1/sqrt(n), variance sqrt(2/n), fourth moment sqrt(96/n)."""
    drawn = secret.normal((200, 200)).flatten()
    error = 8 / 200
    assert abs(float(drawn.mean())) < error
    assert abs(float(drawn.var()) - 1) < error * 2**0.5
    assert abs(float((drawn**4).mean()) - 3) < error * 96**0.5
    assert abs(float((drawn[:20_000] * drawn[20_000:]).mean())) < error * 2**0.5


def test_normal_numbers_have_the_shape_that_was_asked_for() -> None:
    for shape in ((), (0,), (1,), (3, 5)):
        assert secret.normal(shape).shape == shape


def test_no_seed_repeats_anything() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append((secret.seed(), secret.normal((4,)).tolist()))
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_poisson_draws_everybody_or_nobody_at_the_ends() -> None:
    assert secret.poisson(3, 1.0, 2) == [[0, 1, 2], [0, 1, 2]]
    assert secret.poisson(3, 0.0, 2) == [[], []]


def test_poisson_draws_are_independent_coins() -> None:
    """Of 50 patients at rate 0.2, 10 take part on average, with variance 8, not always the same number."""
    sizes = torch.tensor([float(len(draw)) for draw in secret.poisson(50, 0.2, 4000)])
    assert abs(float(sizes.mean()) - 10) < 8 * (8 / 4000) ** 0.5
    assert abs(float(sizes.var()) - 8) < 8 * 8 * (2 / 4000) ** 0.5
