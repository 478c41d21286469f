"""What has been spent of a privacy budget: charges, their epsilon, and the ledger in which a site keeps them."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedlight.errors import DamagedFileError
from fedlight.serialization import write_bytes

Accountant = Literal["rdp", "prv"]


@dataclass(frozen=True, slots=True)
class Charge:
    """Releases of one kind: sums to which everybody adds at most a bound, with Gaussian noise.

    Attributes:
        noise: Standard deviation of the noise over that bound.
        rate: Probability with which everybody takes part in a release.
        steps: How many releases.
    """

    noise: float
    rate: float
    steps: int


def epsilon(charges: Iterable[Charge], delta: float, accountant: Accountant) -> float:
    """Returns the epsilon of (epsilon, delta) for everything that was charged; infinite for a release without noise.

    Args:
        charges: In the order in which they were made.
        delta: Probability with which epsilon may not hold.
        accountant: Opacus' "rdp" (Rényi divergences, fast) or "prv" (numerical composition, tighter, seconds).
            Above ``MEANINGLESS`` it is "rdp" in any case, which bounds epsilon too.
    """
    return _epsilon(tuple(joined(charges)), delta, accountant)


@lru_cache(maxsize=1024)
def _epsilon(charges: tuple[Charge, ...], delta: float, accountant: Accountant) -> float:
    if any(charge.noise <= 0 for charge in charges):
        return float("inf")
    if not charges:
        return 0.0
    rough = _by_opacus(charges, delta, "rdp")
    return rough if accountant == "rdp" or rough > MEANINGLESS else _by_opacus(charges, delta, accountant)


def _by_opacus(charges: tuple[Charge, ...], delta: float, accountant: Accountant) -> float:
    counter = opacus_accountant(accountant)
    counter.history = [(charge.noise, charge.rate, charge.steps) for charge in charges]
    with _quiet():
        return float(counter.get_epsilon(delta=delta))


@lru_cache(maxsize=256)
def noise_for(
    target: float, delta: float, rate: float, steps: int, accountant: Accountant, beside: tuple[Charge, ...] = ()
) -> float:
    """Returns the least noise, to 0.01 of epsilon, with which so many steps stay within a target epsilon.

    Args:
        target: Epsilon of everything together.
        delta: Probability with which it may not hold.
        rate: Probability with which everybody takes part in a step.
        steps: How many.
        accountant: "rdp" or "prv".
        beside: What else is to be paid of it.

    Raises:
        ValueError: If there is no such noise.
    """
    if beside and (other := epsilon(beside, delta, accountant)) >= target:
        raise ValueError(
            f"statistics_noise must leave something of epsilon {target:g}, got {beside[0].noise:g}: statistics alone "
            f"would take {other:.2f}. Raise it, or leave plugins that share statistics out."
        )
    low, high = 0.0, 1.0
    while (after := epsilon([Charge(high, rate, steps), *beside], delta, accountant)) > target:
        if high > MOST_NOISE:
            raise ValueError(f"epsilon must be larger, got {target:g}: no noise is enough for {steps} steps.")
        low, high = high, 2 * high
    while target - after > 0.01 and high - low > 1e-6 * high:
        middle = (low + high) / 2
        reached = epsilon([Charge(middle, rate, steps), *beside], delta, accountant)
        if reached > target:
            low = middle
        else:
            high, after = middle, reached
    return high


MOST_NOISE = 1e6

MEANINGLESS = 100.0
"""Epsilon above which nothing is promised; numerical composition takes minutes there, and overflows in the end."""


def joined(charges: Iterable[Charge]) -> list[Charge]:
    """Joins charges of one kind; what all of them cost together does not depend on their order.

    >>> joined([Charge(1.0, 0.5, 3), Charge(2.0, 0.5, 1), Charge(1.0, 0.5, 4)])
    [Charge(noise=1.0, rate=0.5, steps=7), Charge(noise=2.0, rate=0.5, steps=1)]
    """
    steps: dict[tuple[float, float], int] = {}
    for charge in charges:
        kind = (charge.noise, charge.rate)
        steps[kind] = steps.get(kind, 0) + charge.steps
    return [Charge(*kind, count) for kind, count in steps.items()]


def opacus_accountant(name: Accountant) -> Any:
    """Makes an accountant of Opacus.

    Raises:
        ValueError: If Opacus is not installed.
    """
    try:
        from opacus.accountants import create_accountant
    except ImportError as error:
        raise ValueError('differential privacy needs Opacus. Type: pip install "fedlight[privacy]"') from error
    return create_accountant(name)


class Ledger:
    """The charges of a site, written before the site does what it is charged for.

    What left a site has left it, also if the round was abandoned or is trained again after a crash: so a resume takes
    nothing back, unlike everything else that a site keeps.

    Args:
        path: File of the site; None keeps the charges in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.charges: tuple[Charge, ...] = () if path is None or not path.is_file() else _read(path)

    def add(self, *charges: Charge) -> None:
        """Adds charges; they are on disk when this returns."""
        self._keep([*self.charges, *charges])

    def restore(self, rows: Sequence[dict[str, Any]]) -> None:
        """Takes what a site's state says was charged, if that is more than is known: the file may have been lost."""
        known = tuple(Charge(**row) for row in rows)
        if _spent(known) > _spent(self.charges):
            self._keep(known)

    def rows(self) -> list[dict[str, Any]]:
        """Returns plain values for ``restore``."""
        return [asdict(charge) for charge in self.charges]

    def _keep(self, charges: Iterable[Charge]) -> None:
        self.charges = tuple(joined(charges))
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, json.dumps(self.rows(), indent=1).encode())


def _spent(charges: Iterable[Charge]) -> float:
    """Returns what grows with every charge, so that two records can be compared."""
    return sum(charge.steps * (charge.rate / charge.noise) ** 2 if charge.noise else math.inf for charge in charges)


def _read(path: Path) -> tuple[Charge, ...]:
    try:
        charges = tuple(Charge(**row) for row in json.loads(path.read_bytes()))
        if not charges or not all(map(_is_possible, charges)):
            raise ValueError("it must hold charges of noise, rate and steps")
    except (ValueError, TypeError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}. Bring back what was spent.") from error
    return charges


def _is_possible(charge: Charge) -> bool:
    return 0 <= charge.noise < math.inf and 0 < charge.rate <= 1 and type(charge.steps) is int and charge.steps > 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences hints about the orders of Rényi divergences, and log(1 - rate) at rate 1: the bounds hold anyway."""
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.filterwarnings("ignore", message="Optimal order")
        yield
