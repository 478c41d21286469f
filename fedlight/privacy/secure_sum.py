"""A sum of vectors of which the server learns nothing but the sum (Bonawitz et al., arXiv 1611.04482).

Every pair of sites agrees on a mask that one adds and the other subtracts, so masks cancel in the sum; a second mask of
its own protects a site whose pairwise masks had to be revealed. Both can be found again from any ``threshold`` sites'
shares when a site drops out, but of one site only one of the two.

    y_i = x_i + PRG(b_i) + sum_(j > i) PRG(s_ij) - sum_(j < i) PRG(s_ij)   mod 2^64

    keys     every site: two public keys (X25519), one for masks, one for shares
    shares   every site: shares of its mask key and of b_i, encrypted for every other (ChaCha20-Poly1305)
    masked   every site: y_i
    reveal   every remaining site: of every remaining site the share of b_j, of every missing one that of its mask key

The server is honest but curious: it follows the protocol and is trusted to pass on the right keys. Everything is made
anew in every round. Randomness comes from the operating system, never from the run's seed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedlight.privacy.fixed_point import Ring, SecureSumError
from fedlight.privacy.shamir import join, split

_NONCE = b"\0" * 12
"""Every key encrypts one message, so there is nothing for it to tell apart."""


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What a site tells everybody.

    Attributes:
        mask: For the masks that two sites share.
        share: For the shares that one sends to another.
    """

    mask: bytes
    share: bytes


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a site says of the others at the end, by their names: never both of one.

    Attributes:
        own_masks: Shares of b_j of the sites whose vector arrived.
        mask_keys: Shares of the mask keys of the sites whose vector did not.
    """

    own_masks: Mapping[str, bytes]
    mask_keys: Mapping[str, bytes]


@dataclass
class Member:
    """A site in one secure sum.

    Args:
        name: Its name.
        threshold: How many sites must remain to the end.
        round: Number of the round; it is bound into all keys.
    """

    name: str
    threshold: int
    round: int
    _mask_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    _share_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    _own_seed: bytes = field(default_factory=lambda: os.urandom(32))
    _keys: Mapping[str, PublicKeys] = field(default_factory=dict)
    _shares: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    _revealed: bool = False

    @property
    def public_keys(self) -> PublicKeys:
        """What everybody may know."""
        return PublicKeys(
            self._mask_key.public_key().public_bytes_raw(), self._share_key.public_key().public_bytes_raw()
        )

    def share(self, keys: Mapping[str, PublicKeys]) -> dict[str, bytes]:
        """Returns the encrypted shares of this site's secrets for every member, by name.

        Raises:
            SecureSumError: If there are too few members, two have the same keys or this one's are not among them.
        """
        if self._keys:
            raise SecureSumError(f"{self.name} has shared its secrets in this round already")
        if keys.get(self.name) != self.public_keys or len(set(keys.values())) < len(keys):
            raise SecureSumError("keys must be those of different members, this one among them")
        if not 2 <= self.threshold <= len(keys) or 2 * self.threshold <= len(keys):
            raise SecureSumError(
                f"the threshold must be more than half of the {len(keys)} members and at least 2, got {self.threshold}"
            )
        self._keys = dict(keys)
        members = sorted(keys)
        masks = split(self._mask_key.private_bytes_raw(), len(members), self.threshold)
        own = split(self._own_seed, len(members), self.threshold)
        return {
            name: self._cipher(name, self.name, name).encrypt(_NONCE, masks[place] + own[place], None)
            for place, name in enumerate(members, start=1)
        }

    def mask(self, vector: Ring, shares: Mapping[str, bytes]) -> Ring:
        """Returns the masked vector.

        Args:
            vector: (n,), what to add.
            shares: What the others have encrypted for this site, by their names; who is missing here takes no part.

        Raises:
            SecureSumError: If too few members are left, or a share cannot be read.
        """
        if len(shares) < self.threshold:
            raise SecureSumError(f"at least {self.threshold} members must share their secrets, got {len(shares)}")
        for name, encrypted in shares.items():
            self._shares[name] = self._opened(name, encrypted)
        masked = vector + _stream(self._own_seed, len(vector))
        for name in shares:
            if name != self.name:
                pairwise = _stream(_agreed(self._mask_key, self._keys[name].mask, "mask", self.round), len(vector))
                masked = masked + pairwise if self.name < name else masked - pairwise
        return masked

    def reveal(self, arrived: Collection[str]) -> Revealed:
        """Returns what removes the masks of those whose vectors arrived, and of those whose did not; once.

        Raises:
            SecureSumError: If it is asked twice, or too few vectors arrived: then nothing is revealed.
        """
        if self._revealed:
            raise SecureSumError(f"{self.name} has revealed its shares in this round already")
        if len(set(arrived) & set(self._shares)) < self.threshold:
            raise SecureSumError(f"at least {self.threshold} vectors must arrive, got {len(set(arrived))}")
        self._revealed = True
        own = {name: share for name, (_, share) in self._shares.items() if name in arrived}
        return Revealed(own, {name: share for name, (share, _) in self._shares.items() if name not in arrived})

    # --- inside ----------------------------------------------------------------------------------------------------

    def _opened(self, name: str, encrypted: bytes) -> tuple[bytes, bytes]:
        if name not in self._keys:
            raise SecureSumError(f"{name} is no member of this round")
        try:
            both = self._cipher(name, name, self.name).decrypt(_NONCE, encrypted, None)
        except InvalidTag as error:
            raise SecureSumError(f"the share of {name} must be for {self.name}, got one that is not") from error
        return both[: len(both) // 2], both[len(both) // 2 :]

    def _cipher(self, other: str, sender: str, receiver: str) -> ChaCha20Poly1305:
        """Returns the cipher of one direction between this site and another."""
        about = f"share/{len(sender)}/{sender}/{receiver}"
        return ChaCha20Poly1305(_agreed(self._share_key, self._keys[other].share, about, self.round))


def unmasked(
    total: Ring,
    arrived: Collection[str],
    keys: Mapping[str, PublicKeys],
    sharing: Collection[str],
    revealed: Mapping[str, Revealed],
    threshold: int,
    round: int,
) -> Ring:
    """Returns the sum of the vectors that arrived: what the server does at the end.

    Args:
        total: The sum of the masked ones, (n,); single ones need not be kept.
        arrived: Whose they are.
        keys: The keys of all members.
        sharing: The members whose shares were passed on, so that others have masks with them.
        revealed: What the remaining members said.
        threshold: As the members have it.
        round: As the members have it.

    Raises:
        SecureSumError: If too few members are left, or what they said does not belong together.
    """
    if len(revealed) < threshold:
        raise SecureSumError(f"at least {threshold} members must remain to the end, got {len(revealed)}")
    places = {name: place for place, name in enumerate(sorted(keys), start=1)}
    for name in arrived:
        seed = join({places[other]: said.own_masks[name] for other, said in revealed.items()})
        total = total - _stream(seed, len(total))
    for missing in set(sharing) - set(arrived):
        secret = join({places[other]: said.mask_keys[missing] for other, said in revealed.items()})
        key = X25519PrivateKey.from_private_bytes(secret)
        for name in arrived:
            pairwise = _stream(_agreed(key, keys[name].mask, "mask", round), len(total))
            total = total - pairwise if name < missing else total + pairwise
    return total


def check_keys(keys: PublicKeys, others: Collection[PublicKeys]) -> None:
    """Checks the keys of a member.

    Raises:
        SecureSumError: If nobody can agree on a secret with them, or another member has one of them.
    """
    known = {key for other in others for key in (other.mask, other.share)}
    if {keys.mask, keys.share} & known or keys.mask == keys.share:
        raise SecureSumError("its keys must be its own, got those of another member")
    try:
        for key in (keys.mask, keys.share):
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError as error:
        raise SecureSumError("its keys must be points on the curve that others can agree with, got another") from error


def _agreed(own: X25519PrivateKey, other: bytes, purpose: str, round: int) -> bytes:
    """Returns the secret of 32 bytes that two keys have in common for one purpose."""
    secret = own.exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"fedlight/{round}/{purpose}".encode()).derive(secret)


def _stream(seed: bytes, count: int) -> Ring:
    """Expands 32 bytes to uniform numbers below 2^64 (ChaCha20); a seed is used once, so the nonce may be zero."""
    stream = Cipher(algorithms.ChaCha20(seed, b"\0" * 16), mode=None).encryptor().update(b"\0" * (8 * count))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64)
