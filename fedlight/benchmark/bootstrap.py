"""Intervals for a mean over sites of scores that cluster by site, seed and case.

What varies, and what therefore is resampled, is decided site by site:

- Sites are not resampled. Held-out sites are few and were not drawn from anything, so the interval is for these
  institutions. ``over_sites`` gives the interval for institutions in general that so few allow; it is wide because
  little is known. Drawing cells of site and seed with replacement, across sites, gives neither.
- Seeds are resampled within every site: the jobs of a site differ by seed, and jobs of two sites share no training.
- Cases are resampled within every site, and the same draw serves all seeds, because a case that is hard for one seed
  is hard for the next; drawn anew for every seed, cases would count several times.

Of K seeds K - 1 are drawn with replacement, and n - 1 of n cases. That makes the variance of the draws unbiased; K of K
give two thirds of it with three seeds. As a percentile interval then still forgets that a variance from few seeds is
itself uncertain, it is stretched about the estimate by t / z, with Satterthwaite's degrees of freedom.

What 95 % intervals held in simulated studies with normal effects (4 sites, 2 to 5 seeds, 20 to 400 cases; standard
deviations: sites 0.02, seeds 0.01, cases and residuals 0.001 to 0.03; 500 to 1500 studies a row of settings):
the mean over these sites in 96 to 98 % (one seed, without an effect of it: 95 %); the mean over all institutions, with
``over_sites``, in 94 to 96 %. Cells across sites held the one in 98 to 99 % and the other in 60 to 77 %.

Limits: of one seed the interval does not know how much training varies. Cases count as independent; several images of
one patient make it too narrow. What seeds share across sites (the initial weights) is taken to have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NONE = (float("nan"), float("nan"))


def resample(sites: Sequence[Mapping[str, Array]], draws: int, seed: int) -> dict[str, Array]:
    """Draws the mean over sites of every arm many times.

    Args:
        sites: For every site, by arm: (seeds, cases), NaN where undefined. All arms see the same draws.
        draws: How many.
        seed: Of the draws.

    Returns:
        By arm: (draws,), NaN where a draw has nothing defined.
    """
    drawn: dict[str, list[Array]] = {}
    for number, arms in enumerate(sites):
        counts = _counts(draws, (seed, number))
        for arm, values in arms.items():
            drawn.setdefault(arm, []).append(_site_means(values, counts))
    return {arm: _mean(np.stack(means, axis=1)) for arm, means in drawn.items()}


def _counts(draws: int, stream: tuple[int, int]) -> Callable[[str, int], Array]:
    """Returns a function that says how often each of ``size`` units is drawn: (draws, size), sums to size - 1."""

    @cache
    def counts(unit: str, size: int) -> Array:
        random = np.random.default_rng([*stream, size, *unit.encode()])
        picked = random.integers(size, size=(draws, max(size - 1, 1))) + size * np.arange(draws)[:, None]
        return np.bincount(picked.ravel(), minlength=draws * size).reshape(draws, size).astype(float)

    return counts


def _site_means(values: Array, counts: Callable[[str, int], Array]) -> Array:
    """Draws the mean of one site; values: (seeds, cases)."""
    seeds, cases = counts("seeds", values.shape[0]), counts("cases", values.shape[1])
    defined = np.isfinite(values)
    everything = np.full((len(cases), len(values)), cases[0].sum())
    number = everything if defined.all() else cases @ defined.T.astype(float)  # (draws, seeds)
    means = _ratio(cases @ np.where(defined, values, 0.0).T, number)
    weights = seeds * (number > 0)
    return _ratio((weights * np.where(number > 0, means, 0.0)).sum(axis=1), weights.sum(axis=1))


def _mean(values: Array) -> Array:
    """The mean over the last axis of what is defined."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(float))


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def mean(sites: Sequence[Array]) -> float:
    """Returns the mean over sites of the mean over seeds of the mean over cases, of what is defined.

    >>> mean([np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.25, float("nan")]])])
    0.5
    """
    return float(_mean(site_means(sites)))


def site_means(sites: Sequence[Array]) -> Array:
    """Returns the mean of every site over seeds of the mean over cases: (sites,)."""
    return np.array([float(_mean(_mean(values))) for values in sites])


def interval(sites: Sequence[Array], drawn: Array, level: float) -> tuple[float, float]:
    """Returns the interval for the mean over these sites.

    Args:
        sites: For every site (seeds, cases), NaN where undefined.
        drawn: What ``resample`` drew for them, (draws,).
        level: For instance 0.95.

    Returns:
        Low and high; NaN where no site has two cases or seeds, as nothing then says how scores vary.
    """
    from scipy.special import ndtri, stdtrit

    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or max(max(values.shape) for values in sites) < 2:
        return NONE
    tail = (1 + level) / 2
    ends = np.quantile(drawn, [1 - tail, tail])
    stretch = stdtrit(degrees_of_freedom(sites), tail) / ndtri(tail)
    low, high = mean(sites) + (ends - mean(sites)) * stretch
    return float(low), float(high)


def degrees_of_freedom(sites: Sequence[Array]) -> float:
    """Returns Satterthwaite's degrees of freedom of the variance of a mean over sites; infinite if nothing varies.

    Every site adds the variance of its seeds' means (over seeds, seeds - 1 degrees) and that of its cases' means (over
    cases, cases - 1 degrees).
    """
    margins = [_mean(side) for values in sites for side in (values, values.T)]
    margins = [margin[np.isfinite(margin)] for margin in margins]
    parts = [(margin.var(ddof=1) / len(margin), len(margin) - 1) for margin in margins if len(margin) > 1]
    below = sum(variance**2 / degrees for variance, degrees in parts)
    return float(sum(variance for variance, _ in parts) ** 2 / below) if below > 0 else float("inf")


def over_sites(means: Array, level: float) -> tuple[float, float]:
    """Returns the interval for institutions in general: Student's t over the means of the sites, (sites,).

    It takes the sites for a random sample of institutions with normal effects, which nobody can check with four.
    One site says nothing about others: NaN.
    """
    from scipy.special import stdtrit

    means = means[np.isfinite(means)]
    if len(means) < 2:
        return NONE
    half = stdtrit(len(means) - 1, (1 + level) / 2) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() - half), float(means.mean() + half)
