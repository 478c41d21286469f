"""The server learns the sum, exactly, and nothing else, whoever drops out; too few, and it learns nothing."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import numpy as np
import pytest
import torch
from scipy import stats

from fedlight.privacy.fixed_point import FRACTION, Ring, SecureSumError, bound, from_ring, to_ring
from fedlight.privacy.secure_sum import Member, PublicKeys, Revealed, unmasked
from fedlight.privacy.shamir import join, split

SITES = ("A", "B", "C", "D", "E")


def numbers(site: str, count: int = 50) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(ord(site)), dtype=torch.float64)


class Server:
    """Passes messages on between members; sites drop out at a step.

    Args:
        sites: The members.
        threshold: How many must remain.
    """

    def __init__(self, sites: Collection[str] = SITES, threshold: int = 3) -> None:
        self.threshold = threshold
        self.members = {site: Member(site, threshold, round=1) for site in sites}
        self.keys = {site: member.public_keys for site, member in self.members.items()}
        self.masked: dict[str, Ring] = {}

    def run(self, before_shares: str = "", before_masked: str = "", before_reveal: str = "") -> torch.Tensor:
        """Returns the sum, with sites that are gone before a step; every letter is a site."""
        sharing = [site for site in self.members if site not in before_shares]
        sent = {site: self.members[site].share(self.keys) for site in sharing}
        arrived = [site for site in sharing if site not in before_masked]
        for site in arrived:
            got = {sender: shares[site] for sender, shares in sent.items()}
            self.masked[site] = self.members[site].mask(to_ring(numbers(site), len(SITES)), got)
        remaining = [site for site in arrived if site not in before_reveal]
        revealed = {site: self.members[site].reveal(arrived) for site in remaining}
        total = np.stack(list(self.masked.values())).sum(axis=0, dtype=np.uint64)
        return from_ring(unmasked(total, arrived, self.keys, sharing, revealed, self.threshold, 1))


def plain(sites: Collection[str]) -> torch.Tensor:
    """The plain sum in fixed point: every number is rounded once, their sum is exact."""
    rounded = [to_ring(numbers(site), len(SITES)).view(np.int64) for site in sites]
    return torch.from_numpy(np.sum(rounded, axis=0) / 2.0**FRACTION)


# --- the sum ---------------------------------------------------------------------------------------------------------


def test_the_sum_is_the_plain_one_exactly() -> None:
    assert torch.equal(Server().run(), plain(SITES))


@pytest.mark.parametrize("step", ["before_shares", "before_masked", "before_reveal"])
@pytest.mark.parametrize("gone", ["A", "E", "BD"])
def test_sites_that_drop_out_at_any_step_do_not_spoil_it(step: str, gone: str) -> None:
    """Before their vector arrived they do not count; after it they do."""
    expected = SITES if step == "before_reveal" else [site for site in SITES if site not in gone]
    assert torch.equal(Server().run(**{step: gone}), plain(expected))


def test_sites_may_drop_out_at_different_steps() -> None:
    assert torch.equal(Server().run(before_masked="B", before_reveal="D"), plain("ACDE"))


# --- what is not learned ---------------------------------------------------------------------------------------------


def test_one_masked_vector_looks_like_uniform_noise() -> None:
    """Chi-square of its bytes over 256 values, for a vector of zeros: a fixed site, p > 1e-6; unmasked it is 0."""
    members = {site: Member(site, 2, 1) for site in "AB"}
    keys = {site: member.public_keys for site, member in members.items()}
    sent = {site: member.share(keys) for site, member in members.items()}
    masked = members["A"].mask(np.zeros(20000, np.uint64), {site: shares["A"] for site, shares in sent.items()})
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_masks_are_fresh_in_every_round() -> None:
    servers = [Server(), Server()]
    for server in servers:
        server.run()
    one, other = (server.masked["A"] for server in servers)
    assert not np.any(one == other)


def test_below_the_threshold_nothing_is_revealed() -> None:
    with pytest.raises(SecureSumError, match="at least 3 vectors must arrive, got 2"):
        Server().run(before_masked="ABC")
    with pytest.raises(SecureSumError, match="at least 3 members must remain"):
        Server().run(before_reveal="ABC")
    with pytest.raises(SecureSumError, match="at least 3 members must share"):
        Server().run(before_shares="ABC")


def test_both_secrets_of_a_site_are_never_revealed() -> None:
    server = Server()
    sent = {site: member.share(server.keys) for site, member in server.members.items()}
    member = server.members["A"]
    member.mask(to_ring(numbers("A"), 5), {sender: shares["A"] for sender, shares in sent.items()})
    said = member.reveal(["A", "B", "C"])
    assert (set(said.own_masks), set(said.mask_keys)) == ({"A", "B", "C"}, {"D", "E"})
    with pytest.raises(SecureSumError, match="has revealed its shares in this round already"):
        member.reveal(["A", "B", "C", "D"])


def test_shares_are_readable_by_their_receiver_only() -> None:
    members = {site: Member(site, 2, 1) for site in "ABC"}
    keys = {site: member.public_keys for site, member in members.items()}
    sent = {site: member.share(keys) for site, member in members.items()}
    for sender, receiver in itertools.permutations("ABC", 2):
        wrong = next(site for site in "ABC" if site not in (sender, receiver))
        got = {sender: sent[sender][receiver], wrong: sent[wrong][wrong]}
        with pytest.raises(SecureSumError, match="must be for"):
            members[wrong].mask(np.zeros(1, np.uint64), got)
    assert len({share for shares in sent.values() for share in shares.values()}) == 9


@pytest.mark.parametrize("change", ["lacks me", "same twice", "threshold"])
def test_keys_that_cannot_be_right_are_refused(change: str) -> None:
    member, others = Member("A", 2, 1), {site: Member(site, 2, 1).public_keys for site in "BC"}
    keys: Mapping[str, PublicKeys] = {
        "lacks me": {**others, "A": others["B"]},
        "same twice": {"A": member.public_keys, "B": others["B"], "C": others["B"]},
        "threshold": {"A": member.public_keys, **others, "D": Member("D", 2, 1).public_keys},  # 2 of 4: two halves
    }[change]
    with pytest.raises(SecureSumError):
        member.share(keys)


def test_secrets_are_shared_once() -> None:
    server = Server()
    server.members["A"].share(server.keys)
    with pytest.raises(SecureSumError, match="already"):
        server.members["A"].share(server.keys)


def test_shares_that_do_not_belong_together_give_no_sum() -> None:
    server = Server()
    server.run()
    noise = Revealed(dict.fromkeys(SITES, b"\1" * 66), {})
    with pytest.raises(ValueError, match="must be of one secret"):
        unmasked(server.masked["A"], SITES, server.keys, SITES, dict.fromkeys(SITES[:3], noise), 3, 1)


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [b"\0", b"\0\0", b"\0abc", bytes(range(64))])
def test_any_shares_up_to_the_threshold_give_the_secret_back(secret: bytes) -> None:
    shares = split(secret, 5, 3)
    for chosen in itertools.combinations(shares, 3):
        assert join({member: shares[member] for member in chosen}) == secret
    assert join(shares) == secret


def test_fewer_shares_tell_nothing() -> None:
    """Two shares of three: the secret that they give changes with every splitting, or is none."""
    found = set()
    for _ in range(20):
        shares = split(b"secret", 5, 3)
        try:
            found.add(join({1: shares[1], 2: shares[2]}))
        except ValueError:
            found.add(shares[1])
    assert len(found) == 20


@pytest.mark.parametrize(("members", "threshold"), [(3, 4), (3, 0)])
def test_thresholds_that_cannot_be_met_are_refused(members: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold must be from 1 to 3"):
        split(b"x", members, threshold)
    with pytest.raises(ValueError, match="at most 64 bytes"):
        split(b"x" * 65, 3, 2)


def test_fixed_point_rounds_to_the_nearest_step() -> None:
    values = torch.tensor([0.0, 1.0, -1.5, 3e-8, 1e6], dtype=torch.float64)
    found = from_ring(to_ring(values, 3))
    assert float((found - values).abs().max()) <= 2.0 ** -(FRACTION + 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), bound() / 3])
def test_numbers_that_could_wrap_around_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="must be below"):
        to_ring(torch.tensor([value]), 3)
