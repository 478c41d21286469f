"""What a site adds to the secure sum, what the sum says, and what must never be added."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fedlight_algorithms import ELCFS, QFFL, CoordinateMedian, FedAvg

from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.discovery import PluginInfo, registered
from fedlight.preparation import ConfigError, check_secure, check_secure_sites, prototypes
from fedlight.privacy.fixed_point import SecureSumError
from fedlight.secure_aggregation import (
    MEAN,
    MODEL,
    Announcement,
    SecureAggregation,
    Session,
    context_of_mean,
    joined,
    layout_of,
    layout_of_model,
    mean_update,
    means_of,
    ring_of,
    summands,
)
from fedlight.state import State
from fedlight.update import Broadcast, Exchange, Update
from tests.contracts.harness import Clinic, context_of

SITES = ("A", "B", "C")
FRACTION = SecureAggregation().fraction


def broadcast(params: State | None = None, buffers: State | None = None) -> Broadcast:
    return Broadcast(context_of(SITES), {"w": torch.zeros(2)} if params is None else params, buffers or {})


def update(site: str, params: State, buffers: State | None = None, **shared: Mapping[str, torch.Tensor]) -> Update:
    return Update(site, 1, 5, params, buffers or {}, shared=shared)


def averaged(
    sent: Broadcast, updates: list[Update], plugins: list[Any] | None = None
) -> tuple[Update, dict[str, float]]:
    """Adds up what sites would mask, in the clear; returns what the server makes of the sum, and the weights."""
    plugins = plugins or []
    parts = [summands(each, sent, plugins) for each in updates]
    rings = [{name: ring_of(part, w, 3, FRACTION) for name, (part, w) in each.items()} for each in parts]
    shared = {name: part for each in updates for name, part in each.shared.items() if any(name in p for p in parts)}
    layout = {**layout_of(shared), **layout_of_model(sent, bool(updates[0].buffers))}
    total = np.stack([joined(each, layout) for each in rings]).sum(axis=0, dtype=np.uint64)
    means = means_of(total, layout, FRACTION)
    return mean_update(means, sent, plugins, layout, 1), {name: weight for name, (_, weight) in means.items()}


# --- the mean --------------------------------------------------------------------------------------------------------


def test_the_mean_is_that_of_the_sites_with_their_weights_in_the_sum() -> None:
    """Weights 1, 2, 3 and numbers 1, 2, 4 make (1 + 4 + 12) / 6; no product is rounded."""
    updates = [
        update(site, {"w": torch.tensor([value, 0.0])}) for site, value in zip(SITES, (1.0, 2.0, 4.0), strict=True)
    ]
    found, weights = averaged(broadcast(), updates)
    assert found.params["w"].tolist() == [pytest.approx(17 / 6, abs=2**-23), 0.0]
    assert (found.site, weights) == (MEAN, {MODEL: 6.0})


def test_it_is_off_by_half_a_step_a_site_at_most() -> None:
    """Every site rounds w_k x once, by 2^-33 at most: three of them, over their weights' sum 6."""
    draw = torch.Generator().manual_seed(0)
    values = {site: torch.randn(500, generator=draw, dtype=torch.float64) for site in SITES}
    sent = broadcast({"w": torch.zeros(500, dtype=torch.float64)})
    found, _ = averaged(sent, [update(site, {"w": value}) for site, value in values.items()])
    exact = sum(weight * values[site] for site, weight in zip(SITES, (1, 2, 3), strict=True)) / 6
    assert float((found.params["w"] - exact).abs().max()) <= 3 * 2.0**-33 / 6 + 1e-15


def test_what_no_site_moved_keeps_its_bits() -> None:
    start = {"w": torch.randn(50)}
    found, _ = averaged(broadcast(start), [update(site, start) for site in SITES])
    assert torch.equal(found.params["w"], start["w"])


def test_variances_follow_the_law_of_total_variance_and_counters_their_mean() -> None:
    """Means 0, 3, 3 with weights 1, 2, 3 make 15 / 6 = 2.5; var = 1 + (9 * 5 / 6 - 6.25) = 2.25."""
    like = {"n.running_mean": torch.zeros(1) + 100, "n.running_var": torch.ones(1), "n.count": torch.tensor(0)}
    updates = [
        update(
            site,
            {},
            {"n.running_mean": torch.tensor([mean]), "n.running_var": torch.ones(1), "n.count": torch.tensor(7)},
        )
        for site, mean in zip(SITES, (0.0, 3.0, 3.0), strict=True)
    ]
    found, _ = averaged(broadcast({}, like), updates)
    assert found.buffers["n.running_mean"].item() == pytest.approx(2.5, abs=1e-6)
    assert found.buffers["n.running_var"].item() == pytest.approx(2.25, abs=1e-4)  # measured from 100
    assert torch.equal(found.buffers["n.count"], torch.tensor(7))


def test_a_site_that_shares_no_statistic_does_not_count_there() -> None:
    """Only A and C, of weights 1 and 3, share 2 and 6: (2 + 18) / 4 = 5."""

    class Averaging(ClientPlugin):
        linear = True

    plugin = Averaging()
    plugin.instance_id = "P"
    stats = {"A": {"P": {"x": torch.tensor([2.0])}}, "B": {}, "C": {"P": {"x": torch.tensor([6.0])}}}
    found, weights = averaged(broadcast({}), [update(site, {}, **stats[site]) for site in SITES], [plugin])
    assert found.shared["P"]["x"].tolist() == [5.0]
    assert weights == {MODEL: 6.0, "P": 4.0}


# --- plugins ---------------------------------------------------------------------------------------------------------

LINEAR = [info.cls for info in registered() if issubclass(info.cls, (Aggregator, ClientPlugin)) and info.cls.linear]
HALVES = {type(info.cls().client_half()) for info in registered() if issubclass(info.cls, Aggregator)}
BUNDLED = [
    info
    for info in registered()
    if info.origin == "fedlight" and issubclass(info.cls, (Aggregator, ClientPlugin)) and info.cls not in HALVES
]
"""All methods; a client half has the card of its aggregator."""


@pytest.mark.parametrize("cls", LINEAR)
def test_what_declares_itself_linear_makes_the_same_of_the_mean_as_of_all_updates(cls: type[Any]) -> None:
    """A second round, so that there is a reference: model and statistics agree within float32."""
    clinic = Clinic.of(cls()) if issubclass(cls, Aggregator) else Clinic.of(FedAvg(), [cls()])
    clinic.play(1)
    sent = clinic.broadcast()
    updates = [clinic.fit(site, sent) for site in clinic.clients]
    plain, summed = clinic.server, copy.deepcopy(clinic.server)
    plugins = list(next(iter(clinic.clients.values())).plugins)
    found, weights = averaged(sent, updates, plugins)
    plain.collect(sent.context, [(each.site, each) for each in updates], 3)
    summed.advance(context_of_mean(sent.context, weights[MODEL]), found, weights)
    torch.testing.assert_close(summed.params, plain.params, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        {name: dict(part) for name, part in summed.shared.items()},
        {name: dict(part) for name, part in plain.shared.items()},
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("info", BUNDLED, ids=lambda info: str(info.name))
def test_cards_say_what_is_refused(info: PluginInfo) -> None:
    plugin = info.cls()
    halves = (plugin, []) if isinstance(plugin, Aggregator) else (FedAvg(), [plugin])
    try:
        check_secure(SecureAggregation(), *prototypes(*halves), coded=False)  # type: ignore[arg-type]
    except ConfigError:
        assert info.card.secure_aggregation != "yes"
    else:
        assert info.card.secure_aggregation == "yes"


def test_what_cannot_be_summed_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = SecureAggregation()
    with pytest.raises(ConfigError, match="CoordinateMedian needs every site's update"):
        check_secure(setting, CoordinateMedian(), [], coded=False)
    with pytest.raises(ConfigError, match="QFFL needs every site's update"):
        check_secure(setting, QFFL(), [], coded=False)
    with pytest.raises(ConfigError, match="ELCFS needs what every site shares"):
        check_secure(setting, *prototypes(FedAvg(), [ELCFS()]), coded=False)
    with pytest.raises(ConfigError, match="uplink must be left out"):
        check_secure(setting, FedAvg(), [], coded=True)
    for wrong in (SecureAggregation(threshold=0.5), SecureAggregation(threshold=1.1), SecureAggregation(fraction=60)):
        with pytest.raises(ConfigError, match=r"secure_aggregation: (threshold|fraction) must be"):
            check_secure(wrong, FedAvg(), [], coded=False)
    with pytest.raises(ConfigError, match="cohort must give every round at least 3 sites"):
        check_secure_sites(setting, 2, "cohort")
    monkeypatch.setattr("fedlight.preparation.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedlight\[secure\]'"):
        check_secure(setting, FedAvg(), [], coded=False)


# --- what stays at the site ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"w": torch.tensor([1.0, float("nan")])}, "not finite"),
        ({"w": torch.zeros(3)}, "has shape"),
        ({"w": torch.tensor([0.0, 2.0**30])}, "must be below"),
    ],
)
def test_an_update_that_must_not_be_averaged_is_stopped_by_its_own_site(params: State, reason: str) -> None:
    with pytest.raises(SecureSumError, match=reason):
        Session(SecureAggregation(), broadcast(), update("A", params), [])


@pytest.mark.parametrize("weight", [0.0, 1e-12, 4.0, float("nan")])
def test_a_weight_that_is_not_the_sites_own_is_refused(weight: float) -> None:
    """If the others hardly counted, the sum would be this site's update; each looks at its own weight, 1 or 5."""
    sent = broadcast()
    unfair = replace(sent, context=replace(sent.context, weights={**sent.context.weights, "A": weight}))
    with pytest.raises(SecureSumError, match="must count 1 or its training cases, 5"):
        Session(SecureAggregation(), unfair, update("A", {"w": torch.zeros(2)}), [])


def test_statistics_that_are_no_floating_point_tensors_are_stopped() -> None:
    class Counting(ClientPlugin):
        linear = True

    plugin = Counting()
    plugin.instance_id = "P"
    with pytest.raises(SecureSumError, match="must be floating-point"):
        Session(
            SecureAggregation(), broadcast(), update("A", {"w": torch.zeros(2)}, P={"n": torch.tensor(3)}), [plugin]
        )


def test_an_announcement_has_keys_and_shapes_and_no_number_of_the_update() -> None:
    sent = update("A", {"w": torch.tensor([0.25, 0.5])})
    said = Session(SecureAggregation(), broadcast(), sent, []).announcement
    assert (said.params, said.buffers, said.shared) == ({}, {}, {})
    assert len(said.payload) == 64 + len("{}")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"k" * 63,
        b"k" * 64,
        b"k" * 64 + b"[]",
        b"k" * 64 + json.dumps({"P": {"x": ["int64", [1]]}}).encode(),
        b"k" * 64 + json.dumps({"P": {"x": ["torch.float32", [-1]]}}).encode(),
        b"k" * 64 + json.dumps({"P": {"x": ["torch.float32", [2**20, 2**20]]}}).encode(),
        b"k" * 64 + b"[" * 200_000,
        b"k" * 64 + json.dumps({"P": {"x": [[], [1]]}}).encode(),
        b"k" * 64 + b'{"P": {"x": ["torch.float32", [' + b"9" * 4000 + b", " + b"9" * 4000 + b"]]}}",
    ],
)
def test_announcements_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(SecureSumError):
        Announcement.read(payload)


def test_members_must_be_of_the_cohort_and_of_this_round() -> None:
    session = Session(SecureAggregation(), broadcast(), update("A", {"w": torch.zeros(2)}), [])
    keys = {site: Session(SecureAggregation(), broadcast(), update("A", {"w": torch.zeros(2)}), []) for site in "BX"}
    content = {
        "keys": {"A": session.announcement.payload[:64], **{s: k.announcement.payload[:64] for s, k in keys.items()}},
        "layout": {MODEL: b"{}"},
    }
    with pytest.raises(SecureSumError, match="must be of the round's cohort, got X"):
        session.answer("shares", Exchange("A", 1, content))
    with pytest.raises(SecureSumError, match="takes no part in the sum of round 2"):
        session.answer("shares", Exchange("A", 2, content))
