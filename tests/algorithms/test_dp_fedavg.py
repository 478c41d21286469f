"""DP-FedAvg by hand: what a site may change, what the server adds, and how the bound follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedlight_algorithms import DPFedAvg, FedAvg
from fedlight_algorithms.dp_fedavg import ClippedChange, followed, noise_of_model

from fedlight.federation import Federation
from fedlight.preparation import ConfigError
from fedlight.privacy import secret
from fedlight.privacy.accounting import Charge, Ledger, epsilon, opacus_accountant
from fedlight.state import State, digest, parameters_of
from fedlight.update import Update
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, aggregate, context_of, task

Federate = Callable[..., Federation]


def moved(change: float, within: float | None = None, site: str = "A") -> Update:
    shared = {} if within is None else {"ClippedChange": {"within": torch.tensor(within)}}
    return Update(site, 1, 5, {"w": torch.tensor([change])}, {}, {}, shared)


def test_a_change_is_shortened_to_the_bound_over_all_parameters() -> None:
    """All parameters move by the same amount; the length is then the bound, 0.25, and the direction the same."""
    module = task()
    half = ClippedChange(0.25)
    half.instance_id = "ClippedChange"
    start = parameters_of(module)
    half.on_round_start("A", module, replace(Clinic.of(FedAvg()).broadcast(), params=start))
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1.0)
    assert half.on_round_end(module)["within"] == 0
    change = torch.cat([(value - start[name]).flatten() for name, value in parameters_of(module).items()])
    assert float(change.norm()) == pytest.approx(0.25, rel=1e-4)
    torch.testing.assert_close(change, change.mean().expand_as(change), rtol=1e-3, atol=1e-6)


def test_a_change_within_the_bound_keeps_its_bits() -> None:
    module = task()
    half = ClippedChange(1e6)
    half.on_round_start("A", module, Clinic.of(FedAvg()).broadcast())
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    before = digest(parameters_of(module))
    assert half.on_round_end(module)["within"] == 1
    assert digest(parameters_of(module)) == before


def test_without_bound_and_noise_it_is_fedavg_with_uniform_weights() -> None:
    plugin = DPFedAvg(noise=0.0, clip=math.inf)
    played = Clinic.of(plugin).play(2)
    context = context_of(A=1, B=1, C=1)
    start = parameters_of(task())
    updates = {site: {name: value + k for name, value in start.items()} for k, site in enumerate("ABC")}
    results = [aggregate(each, context, start, updates) for each in (DPFedAvg(0.0, math.inf), FedAvg())]
    assert digest(results[0]) == digest(results[1])
    assert played.server.shared == {}


def test_under_poisson_sampling_the_mean_is_over_the_expected_sites() -> None:
    """Two of eight sites at rate 1/4 come, or one: sums of 6 and 2 over the expected two give 3 and 1."""
    plugin = DPFedAvg(noise=0.0, clip=99.0, clip_lr=0.0)
    context = replace(context_of(tuple("ABCDEFGH")), rate=0.25)
    for changes, expected in (([4.0, 2.0], 3.0), ([2.0], 1.0)):
        plugin.begin(context, {"w": torch.tensor([0.0])})
        for site, change in zip("AB", changes, strict=False):
            plugin.add(moved(change, site=site))
        assert plugin.finish()["w"].tolist() == [expected]


def test_noise_is_that_of_the_bound_over_the_expected_sites() -> None:
    """It is z S / m = 2 * 0.5 / 4 = 0.25 with a fixed bound; eight standard errors of n = 40 000."""
    plugin = DPFedAvg(noise=2.0, clip=0.5, clip_lr=0.0)
    start: State = {"w": torch.zeros(40_000)}
    results = [aggregate(plugin, context_of(tuple("ABCD")), start, dict.fromkeys("ABCD", start)) for _ in range(2)]
    for result in results:
        assert abs(float(result["w"].std()) - 0.25) < 8 * 0.25 / 80_000**0.5
    assert digest(results[0]) != digest(results[1])


def test_noise_of_the_model_by_hand() -> None:
    """With z = 3 and s_b = 2.5, 1/9 - 1/25 = 16/225, so z_delta = 15/4."""
    assert noise_of_model(3.0, 2.5) == pytest.approx(3.75)
    assert noise_of_model(3.0, math.inf) == pytest.approx(3)


def test_the_bound_follows_the_quantile() -> None:
    """All shorter, quantile 1/2, rate 0.2: a factor exp(-0.1); none: exp(0.1); as many as wanted: it stays."""
    assert followed(2.0, 1.0, 0.5, 0.2) == pytest.approx(2 * math.exp(-0.1))
    assert followed(2.0, 0.0, 0.5, 0.2) == pytest.approx(2 * math.exp(0.1))
    assert followed(2.0, 0.5, 0.5, 0.2) == 2


def test_sites_get_the_bound_that_their_bits_have_moved() -> None:
    plugin = DPFedAvg(noise=0.0, clip=2.0)
    half = plugin.client_half()
    plugin.begin(context_of(("A", "B")), {"w": torch.tensor([0.0])})
    plugin.add(moved(1.0, within=1.0))
    plugin.add(moved(1.0, within=1.0, site="B"))
    plugin.finish()
    assert float(half.finish()["clip"]) == pytest.approx(2 * math.exp(-0.1))
    saved = plugin.state_dict()
    other = DPFedAvg(noise=0.0, clip=2.0)
    other.load_state_dict(saved)
    assert other.report() == plugin.report() == {"clip": pytest.approx(2 * math.exp(-0.1))}


def test_noise_is_rounded_once() -> None:
    result = secret.noisy(torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64), 2**-30)
    assert result.dtype == torch.float32
    assert result.item() == 1


@pytest.mark.parametrize(("rate", "amplified", "charged"), [(0.25, True, 0.25), (0.25, False, 1.0), (1.0, True, 1.0)])
def test_epsilon_is_that_of_opacus_for_the_same_rounds(rate: float, amplified: bool, charged: float) -> None:
    """Sites know who was drawn, so a draw makes epsilon smaller only where one asks for that of outsiders."""
    plugin = DPFedAvg(noise=2.0, amplified=amplified)
    theirs = opacus_accountant("rdp")
    for _ in range(3):
        plugin.begin(replace(context_of(tuple("ABCD")), rate=rate), {"w": torch.tensor([0.0])})
        plugin.add(moved(1.0, within=1.0))
        plugin.finish()
        theirs.step(noise_multiplier=2.0, sample_rate=charged)
    again = DPFedAvg(noise=2.0)
    again.load_state_dict(plugin.state_dict())
    assert again.report()["epsilon"] == plugin.report()["epsilon"] == theirs.get_epsilon(delta=1e-5)


def test_what_was_spent_stays_spent_when_a_round_is_trained_again(tmp_path: Path) -> None:
    """A crash after the second round was aggregated and before it was saved: two rounds that count cost three."""
    first = DPFedAvg(noise=2.0)
    first.open(tmp_path)
    saved = _played(first)
    _played(first)
    resumed = DPFedAvg(noise=2.0)
    resumed.load_state_dict(saved)
    resumed.open(tmp_path)
    _played(resumed)
    assert Ledger(tmp_path / "privacy.json").charges == (Charge(2.0, 1.0, 3),)
    assert resumed.report()["epsilon"] == epsilon([Charge(2.0, 1.0, 3)], 1e-5, "rdp")


def test_a_lost_file_is_made_again_from_the_saved_rounds(tmp_path: Path) -> None:
    plugin = DPFedAvg(noise=2.0)
    plugin.load_state_dict(_played(DPFedAvg(noise=2.0)))
    plugin.open(tmp_path)
    assert Ledger(tmp_path / "privacy.json").charges == (Charge(2.0, 1.0, 1),)


def test_a_run_charges_before_the_round_is_saved(federate: Federate) -> None:
    run: Any = {"rounds": 2, "aggregator": DPFedAvg()}
    folder = federate(**run).fit(small_task(), small_sites())
    (folder.rounds / "00002.safetensors").unlink()
    again = federate(**run).fit(small_task(), small_sites(), ckpt_path="last")
    assert Ledger(again.path / "privacy.json").charges == (Charge(1.0, 1.0, 3),)


def _played(plugin: DPFedAvg) -> Any:
    """Plays a round and returns what is saved after it."""
    plugin.begin(context_of(tuple("ABCD")), {"w": torch.tensor([0.0])})
    plugin.add(moved(1.0, within=1.0))
    plugin.finish()
    return plugin.state_dict()


def test_few_sites_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    plugin = DPFedAvg()
    for _ in range(2):
        plugin.begin(context_of(), {})
    (record,) = caplog.records
    assert "of which there are 3: with fewer than about 100" in record.message


def test_an_amplified_epsilon_says_whom_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    context = replace(context_of(tuple(map(str, range(100)))), rate=0.25)
    for plugin in (DPFedAvg(), DPFedAvg(amplified=True)):
        plugin.begin(context, {})
        plugin.begin(context, {})
    (record,) = caplog.records
    assert "so not against the sites" in record.message


@pytest.mark.parametrize("min_sites", [1, 2])
def test_repeated_draws_are_not_called_amplified(federate: Federate, min_sites: int) -> None:
    chance: Any = {"sampling": "poisson", "cohort": 0.5, "min_sites": min_sites}
    federation = federate(aggregator=DPFedAvg(amplified=True), **chance)
    if min_sites == 1:
        federation._cohorts(("A", "B", "C"), ())
        return
    with pytest.raises(ConfigError, match="min_sites must be 1 with poisson sampling and an amplified DPFedAvg, got 2"):
        federation._cohorts(("A", "B", "C"), ())
    federate(aggregator=DPFedAvg(), **chance)._cohorts(("A", "B", "C"), ())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"noise": -1.0}, "noise"),
        ({"noise": math.inf}, "noise"),
        ({"noise": 1e-200}, "noise must be 0 or at least 0.001"),
        ({"clip": 0.0}, "clip"),
        ({"clip": math.inf}, "clip must be finite"),
        ({"clip_lr": -0.1}, "clip_lr"),
        ({"quantile": 1.5}, "quantile"),
        ({"delta": 0.0}, "delta"),
    ],
)
def test_arguments_are_checked(arguments: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        DPFedAvg(**arguments).validate()
