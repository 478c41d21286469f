"""How numbers are written: a real minus sign, a word for what is missing, as many digits as mean something."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedlight.benchmark.measures import UNDEFINED

MISSING = UNDEFINED

MINUS = "\u2212"

THIN = "\u202f"
"""The space between thousands."""


def fixed(value: float | None, digits: int = 3) -> str:
    """Writes a number with a fixed count of digits.

    >>> fixed(0.8126), fixed(-0.5, 1), fixed(float("nan"))
    ('0.813', '−0.5', 'n/a')
    """
    if absent(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.removeprefix("-")


def signed(value: float | None, digits: int = 3) -> str:
    """Writes a difference with its sign.

    >>> signed(0.0214), signed(-0.0214), signed(0.0)
    ('+0.021', '−0.021', '0.000')
    """
    text = fixed(value, digits)
    return f"+{text}" if not absent(value) and float(text.replace(MINUS, "-")) > 0 else text


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Writes an interval of differences.

    >>> interval(-0.01, 0.02), interval(None, None)
    ('[−0.010, +0.020]', 'n/a')
    """
    return MISSING if absent(low) else f"[{signed(low, digits)}, {signed(high, digits)}]"


def duration(seconds: float | None) -> str:
    """Writes a time in the unit that suits it.

    >>> duration(42), duration(600), duration(86400)
    ('42 s', '10 min', '24.0 h')
    """
    if absent(seconds) or seconds is None:
        return MISSING
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str]) -> str:
    """Joins names as a sentence does.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def counted(number: int, noun: str) -> str:
    """Writes a number of things.

    >>> counted(1, "site"), counted(3, "site")
    ('1 site', '3 sites')
    """
    return f"{number} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """Returns a noun as it stands behind a number.

    >>> plural("seed", 1), plural("seed", 0)
    ('seed', 'seeds')
    """
    return noun if number == 1 else f"{noun}s"


def absent(value: float | None) -> bool:
    """Says whether there is no number."""
    return value is None or math.isnan(value)
