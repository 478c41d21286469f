"""A secret in shares: any ``threshold`` of them give it back, fewer tell nothing (Shamir, CACM 1979).

f(x) = secret + a_1 x + ... + a_(t-1) x^(t-1)  mod p;  share of member x: f(x);  secret = f(0) by Lagrange
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

PRIME = 2**521 - 1
"""A Mersenne prime above every secret of 64 bytes."""


def split(secret: bytes, members: int, threshold: int) -> dict[int, bytes]:
    """Splits a secret.

    Args:
        secret: 1 to 64 bytes.
        members: Number of shares.
        threshold: How many of them give the secret back.

    Returns:
        The share of every member, by its number from 1.

    Raises:
        ValueError: If the numbers do not fit or the secret is too long.
    """
    if not 1 <= threshold <= members:
        raise ValueError(f"threshold must be from 1 to {members}, the number of members, got {threshold}")
    if not 1 <= len(secret) <= 64:
        raise ValueError(f"a secret must have at most 64 bytes and at least one, got {len(secret)}")
    # the length goes in front, so that leading zeros come back
    value = int.from_bytes(bytes([len(secret)]) + secret)
    coefficients = [value, *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {member: _at(coefficients, member).to_bytes(66) for member in range(1, members + 1)}


def join(shares: Mapping[int, bytes]) -> bytes:
    """Returns the secret of which these are shares; with fewer than the threshold, something else or an error.

    Raises:
        ValueError: If these are no shares of one secret.
    """
    points = {member: int.from_bytes(share) for member, share in shares.items()}
    value = sum(share * _weight(member, points) for member, share in points.items()) % PRIME
    data = value.to_bytes(66).lstrip(b"\0")
    if not data or len(data) != 1 + data[0]:
        raise ValueError(f"{len(shares)} shares must be of one secret and as many as its threshold, got others")
    return data[1:]


def _at(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def _weight(member: int, points: Mapping[int, int]) -> int:
    """Returns the Lagrange polynomial of a member at 0."""
    above, below = 1, 1
    for other in points:
        if other != member:
            above, below = above * -other % PRIME, below * (member - other) % PRIME
    return above * pow(below, -1, PRIME) % PRIME
