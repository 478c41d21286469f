"""A round of secure aggregation: the plain mean, whoever is lost, and nothing revealed below the threshold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fedlight_algorithms import FedAvg, FedAvgAlign
from scipy import stats

from fedlight.executors.executor import Phase, Reply
from fedlight.secure_aggregation import (
    MODEL,
    SecureAggregation,
    Session,
    context_of_mean,
    joined,
    layout_of_model,
    mean_update,
    means_of,
)
from fedlight.secure_round import SecureRound
from fedlight.server import RoundFailedError, Traffic
from fedlight.state import digest
from fedlight.tracking.tracker import SiteRound
from fedlight.update import Exchange, Sent, SiteFailure, Update
from tests.contracts.harness import Clinic, TinySites

SITES = ("A", "B", "C", "D", "E")
SETTING = SecureAggregation(threshold=0.6)  # three of five


class Uneven(TinySites):
    """Sites that count for as many cases as they have: 1, 2, ..."""

    def num_samples(self, site: str) -> int:
        return SITES.index(site) + 1


class Sites:
    """Five sites that have trained, of which some are lost before a step.

    Args:
        lost: Sites by the step that they do not live to see.
        forged: What a site answers in a step in place of the truth.
    """

    def __init__(
        self,
        aggregator: Any = None,
        lost: Mapping[str, str] | None = None,
        forged: Mapping[str, Exchange] | None = None,
    ) -> None:
        self.clinic = Clinic.of(aggregator or FedAvg(), data=Uneven(SITES))
        self.lost, self.forged = lost or {}, forged or {}
        self.context = self.clinic.broadcast().context
        self.sessions: dict[str, Session] = {}
        self.rings: dict[str, Any] = {}
        self.crossed: list[tuple[str, Sent, Reply]] = []
        self.traffic = Traffic()

    def train(self) -> Iterator[tuple[str, object]]:
        broadcast = self.clinic.broadcast()
        for site, client in self.clinic.clients.items():
            client.local = replace(client.local, secure=SETTING)
            update = self.clinic.fit(site, broadcast)
            assert client.session is not None
            self.sessions[site] = client.session
            self.rings[site] = dict(client.session._rings)
            gone = site in self.lost.get("fit", "")
            yield site, SiteFailure(site, 1, "fit", "lost", "gone") if gone else update

    def call(self, step: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        for site, message in messages.items():
            assert isinstance(message, Exchange)
            reply: Reply = SiteFailure(site, 1, step, "lost", "gone")
            if site not in self.lost.get(step, ""):
                reply = self.forged.get(f"{site} {step}") or self.sessions[site].answer(step, message)
            self.crossed.append((step, message, reply))
            yield site, reply

    def play(self) -> tuple[list[SiteRound], list[SiteFailure]]:
        secure = SecureRound(SETTING, self.clinic.server, self.context, False, self.call, self.traffic)
        return secure.collect(self.train())


def plain(sites: Collection[str], aggregator: Any = None) -> Clinic:
    """The model after a plain round to which only some sites came."""
    clinic = Clinic.of(aggregator or FedAvg(), data=Uneven(SITES))
    broadcast = clinic.broadcast()
    updates = [(site, clinic.fit(site, broadcast)) for site in SITES if site in sites]
    clinic.server.collect(broadcast.context, updates, 1)
    return clinic


def same(found: Clinic, expected: Clinic) -> None:
    """Five roundings of 2^-33 over weights of 1 or more, then one of float32 on each side, of numbers below 4."""
    for name, value in found.server.params.items():
        assert (
            float((value.double() - expected.server.params[name].double()).abs().max()) <= 5 * 2.0**-33 + 2 * 2.0**-22
        )


# --- the sum ---------------------------------------------------------------------------------------------------------


def test_a_round_makes_the_plain_mean() -> None:
    sites = Sites()
    accepted, failures = sites.play()
    assert ([each.site for each in accepted], failures) == (list(SITES), [])
    same(sites.clinic, plain(SITES))


def test_statistics_of_plugins_are_part_of_the_sum() -> None:
    sites, expected = Sites(FedAvgAlign()), plain(SITES, FedAvgAlign())
    sites.play()
    same(sites.clinic, expected)
    for name, value in sites.clinic.server.shared["MomentAlignment"].items():
        torch.testing.assert_close(value, expected.server.shared["MomentAlignment"][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        ({"fit": "AB"}, "CDE"),
        ({"shares": "BE"}, "ACD"),
        ({"masked": "BE"}, "ACD"),
        ({"masked": "A", "shares": "C"}, "BDE"),
        ({"masked": "A", "reveal": "C"}, "BCDE"),
        ({"reveal": "AE"}, "ABCDE"),
    ],
)
def test_two_sites_that_are_lost_at_any_step_leave_the_right_sum(lost: dict[str, str], left: str) -> None:
    """Who was lost before the vector arrived does not count; who was lost after it does."""
    sites = Sites(lost=lost)
    accepted, failures = sites.play()
    assert [each.site for each in accepted] == list(left)
    assert sorted(failure.site for failure in failures) == sorted("".join(lost.values()))
    same(sites.clinic, plain(left))


def test_masked_numbers_add_up_to_the_plain_ones_exactly() -> None:
    """With a site lost: the bits of the model are those of the sum of the rounded numbers that had no masks."""
    sites, clear = Sites(lost={"masked": "D"}), Sites()
    accepted, _ = sites.play()
    for _ in clear.train():
        pass
    sent = clear.clinic.server.broadcast(clear.context)
    layout = layout_of_model(sent, buffers=False)
    total = np.stack([joined(clear.rings[site], layout) for site in "ABCE"]).sum(axis=0, dtype=np.uint64)
    means = means_of(total, layout, SETTING.fraction)
    update = mean_update(means, sent, (), layout, sum(each.num_samples for each in accepted))
    clear.clinic.server.advance(context_of_mean(clear.context, means[MODEL][1]), update, {})
    assert digest(clear.clinic.server.params) == digest(sites.clinic.server.params)


# --- what is not revealed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "asked"),
    [({"fit": "ABC"}, ""), ({"shares": "ABC"}, "shares"), ({"masked": "ABC"}, "masked"), ({"reveal": "ABC"}, "reveal")],
)
def test_below_the_threshold_the_round_ends_and_nothing_is_revealed(lost: dict[str, str], asked: str) -> None:
    """No later step is asked for; in the last, two sites' shares give no mask. The server is as it was."""
    sites = Sites(lost=lost)
    before = digest(sites.clinic.server.params)
    with pytest.raises(RoundFailedError, match=r"2 sites have .*, but 3 are needed, so nothing was revealed") as raised:
        sites.play()
    assert sorted(failure.site for failure in raised.value.failures) == ["A", "B", "C"]
    assert [step for step, _, _ in sites.crossed][-1:] == ([asked] if asked else [])
    assert (digest(sites.clinic.server.params), sites.clinic.server.round) == (before, 0)


def test_a_single_masked_update_looks_like_uniform_noise() -> None:
    """Chi-square of the bytes of each vector over 256 values: p above 1e-6; of the vectors without masks it is 0."""
    sites = Sites()
    sites.play()
    for _, message, reply in sites.crossed:
        if isinstance(reply, Exchange) and "vector" in reply.content:
            seen = np.frombuffer(reply.content["vector"][MODEL], np.uint8)
            assert stats.chisquare(np.bincount(seen, minlength=256)).pvalue > 1e-6
            clear = sites.rings[message.site][MODEL].view(np.uint8)  # type: ignore[union-attr]
            assert stats.chisquare(np.bincount(clear, minlength=256)).pvalue < 1e-6


def test_the_masks_of_a_site_are_revealed_in_one_way_only() -> None:
    sites = Sites(lost={"masked": "B"})
    sites.play()
    said = [reply.content for step, _, reply in sites.crossed if step == "reveal" and isinstance(reply, Exchange)]
    assert said
    for content in said:
        assert (set(content["own_masks"]), set(content["mask_keys"])) == (set("ACDE"), {"B"})


# --- answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "content", "left"),
    [
        ("shares", {"shares": {"A": b"x"}}, "BCDE"),
        ("masked", {"vector": {MODEL: b"12345678"}}, "BCDE"),
        ("masked", {}, "BCDE"),
        ("reveal", {"own_masks": {"A": b"x"}, "mask_keys": {}}, "ABCDE"),
        ("reveal", {"own_masks": {}, "mask_keys": {"B": b"x"}}, "ABCDE"),
    ],
)
def test_an_answer_that_is_none_makes_its_site_a_lost_one(step: str, content: Any, left: str) -> None:
    sites = Sites(forged={f"A {step}": Exchange("A", 1, content)})
    accepted, failures = sites.play()
    assert [each.site for each in accepted] == list(left)
    assert [(failure.site, failure.kind) for failure in failures] == [("A", "refused")]
    same(sites.clinic, plain(left))


def test_shares_that_are_made_up_end_the_round() -> None:
    noise = Exchange("A", 1, {"own_masks": dict.fromkeys(SITES, b"\1" * 66), "mask_keys": {}})
    with pytest.raises(RoundFailedError, match="the masks cannot be taken away"):
        Sites(forged={"A reveal": noise}).play()


def test_an_update_that_is_not_masked_is_refused() -> None:
    sites = Sites()
    replies = list(sites.train())
    bare = Update("A", 1, 5, sites.clinic.server.params, {})
    secure = SecureRound(SETTING, sites.clinic.server, sites.context, False, sites.call, Traffic())
    accepted, failures = secure.collect([("A", bare), *replies[1:]])
    assert [each.site for each in accepted] == list("BCDE")
    assert failures[0].reason == "answer refused: it is not masked"


@pytest.mark.parametrize("keys", [b"\0" * 64, None])
def test_keys_with_which_nobody_can_agree_cost_their_site_alone_the_round(keys: bytes | None) -> None:
    """A point of small order, or the keys of B under the name of C."""
    sites = Sites()
    replies = dict(sites.train())
    updates = {site: reply for site, reply in replies.items() if isinstance(reply, Update)}
    forged = keys or updates["B"].payload[:64]
    replies["C"] = replace(updates["C"], payload=forged + updates["C"].payload[64:])
    secure = SecureRound(SETTING, sites.clinic.server, sites.context, False, sites.call, Traffic())
    accepted, failures = secure.collect(replies.items())
    assert [each.site for each in accepted] == list("ABDE")
    assert [failure.site for failure in failures] == ["C"]
    assert "its keys must be" in failures[0].reason


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_bytes_are_counted_by_part() -> None:
    """Up: 64 of keys and "{}", five shares of 148, five of 66; 8 a number and one weight. Down: keys, "{}", shares."""
    sites = Sites()
    accepted, _ = sites.play()
    numbers = sum(value.numel() for value in sites.clinic.server.params.values())
    assert sites.traffic.up["A"] == {"secure aggregation": 66 + 5 * 148 + 5 * 66, "masked update": 8 * (numbers + 1)}
    assert sites.traffic.down["A"] == {"secure aggregation": 5 * 64 + 2 + 5 * 148}
    assert accepted[0].parts["bytes_up/masked update"] == 8 * (numbers + 1)
