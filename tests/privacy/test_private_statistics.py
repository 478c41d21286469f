"""What plugins share under example-level privacy: how far a patient counts, the noise, what is paid, and the laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedlight_algorithms import (
    CCST,
    ELCFS,
    AdaIN,
    AmplitudeMix,
    CrossEFDMix,
    CrossMixStyle,
    HistogramMatching,
    Prototypes,
    StyleExploration,
)
from torch import Tensor

from fedlight.federation import Federation
from fedlight.plugins import ImageMeans
from fedlight.privacy.accounting import Charge, Ledger, epsilon, noise_for
from fedlight.privacy.example_level import Account, BudgetSpentError, ExampleLevel, refusal
from fedlight.privacy.private_mean import PrivateMean
from fedlight.randomness import generator
from fedlight.update import Broadcast, RoundContext
from tests.conftest import fedavg, small_sites, small_task
from tests.contracts.harness import images_of, task

Federate = Callable[..., Federation]

SHARING: list[Callable[[], Any]] = [
    AdaIN,
    lambda: AmplitudeMix(spread=1.0),
    AmplitudeMix,
    CCST,
    CrossEFDMix,
    CrossMixStyle,
    HistogramMatching,
    StyleExploration,
]


# --- the mean --------------------------------------------------------------------------------------------------------


def test_a_patient_is_shortened_over_all_names_together() -> None:
    """(3, 4) has norm 5 and becomes (0.6, 0.8); (0.3, 0.4) is short enough; not a number counts as 0."""
    mean = PrivateMean(clip=1.0, noise=0.0)
    mean.add({"a": torch.tensor([[3.0], [0.3]]), "b": torch.tensor([[[4.0]], [[0.4]]])})
    mean.add({"a": torch.tensor([[float("nan")]]), "b": torch.tensor([[[1.0]]])})
    result = mean.over(3)
    torch.testing.assert_close(result["a"], torch.tensor([0.9 / 3]))
    torch.testing.assert_close(result["b"], torch.tensor([[1.2 / 3]]))


def test_noise_has_its_deviation_and_is_fresh() -> None:
    """It is z C / n = 5 * 2 / 10 = 1; eight standard errors of a deviation of 10,000 numbers are 8 / sqrt(20,000)."""
    draws = []
    for _ in range(2):
        mean = PrivateMean(clip=2.0, noise=5.0)
        mean.add({"x": torch.zeros(10, 10_000)})
        draws.append(mean.over(10)["x"])
        assert abs(float(draws[-1].std()) - 1) < 8 / 20_000**0.5
    assert abs(float(torch.corrcoef(torch.stack(draws))[0, 1])) < 8 / 10_000**0.5


def test_no_numbers_give_no_mean() -> None:
    assert PrivateMean(1.0, 1.0).over(4) == {}


# --- the plugins -----------------------------------------------------------------------------------------------------


def shared_both_ways(plugin: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns what a plain round shares that sees every image once, and what follows from means over these images."""
    module, batch = task(), images_of("A", 6)
    plugin.instance_id, plugin.generator = type(plugin).__name__, generator(0, "law")
    module.plugins = (plugin,)
    plugin.on_round_start("A", module, Broadcast(RoundContext(1, 2, 0, ("A",), ("A",), {"A": 6}, {"A": 1.0}), {}, {}))
    with torch.no_grad():
        module.on_fit_start()
        module._styled_pass(plugin.transform_batch(batch))
        module.on_fit_end()
        rows = plugin.of_images(batch, module.features_of(batch["image"]))
    mean = PrivateMean(clip=1e9, noise=0.0)
    mean.add(rows)
    return dict(plugin.on_round_end(module)), dict(plugin.of_means(mean.over(6), 6))


@pytest.mark.parametrize("make", SHARING)
def test_without_noise_and_bound_a_site_shares_what_a_plain_round_shares(make: Callable[[], Any]) -> None:
    plain, of_means = shared_both_ways(make())
    assert plain.keys() == of_means.keys()
    assert plain
    for name, value in plain.items():
        torch.testing.assert_close(of_means[name], value, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("make", SHARING)
def test_what_noise_makes_impossible_is_mended_and_few_patients_share_nothing(make: Callable[[], Any]) -> None:
    plugin = make()
    _, known = shared_both_ways(plugin)
    rows = plugin.of_images(images_of("A", 6), task_features(plugin))
    means = {name: torch.randn(value.shape[1:]) for name, value in rows.items()}
    noised = plugin.of_means(means, 6)
    assert {name: value.shape for name, value in noised.items()} == {name: value.shape for name, value in known.items()}
    assert all(bool(value.isfinite().all()) for value in noised.values())
    assert plugin.of_means(means, plugin.min_images - 1) == {}


def task_features(plugin: Any) -> Any:
    module = task()
    module.plugins = (plugin,)
    return module.features_of(images_of("A", 6)["image"])


def test_only_means_over_images_are_covered() -> None:
    for make in SHARING:
        assert isinstance(make(), ImageMeans)
        assert refusal(make()) is None
    assert refusal(CCST(variant="single")) == "shares what it measured on images"
    assert refusal(Prototypes()) is not None
    assert refusal(ELCFS()) is not None


# --- what is paid ----------------------------------------------------------------------------------------------------


def test_the_noise_of_training_leaves_room_for_statistics() -> None:
    beside = (Charge(10.0, 1.0, 4),)
    noise = noise_for(3.0, 1e-5, 0.1, 40, "rdp", beside)
    assert 2.98 < epsilon([Charge(noise, 0.1, 40), *beside], 1e-5, "rdp") <= 3.0
    assert noise > noise_for(3.0, 1e-5, 0.1, 40, "rdp")
    with pytest.raises(ValueError, match="statistics_noise must leave something of epsilon 3, got 1"):
        noise_for(3.0, 1e-5, 0.1, 40, "rdp", (Charge(1.0, 1.0, 4),))


def test_a_round_is_refused_if_its_statistics_would_be_too_much() -> None:
    training = epsilon([Charge(2.0, 0.2, 5)], 1e-5, "rdp")
    account = Account(ExampleLevel(epsilon=training + 0.01, noise=2.0), Ledger())
    with pytest.raises(BudgetSpentError):
        account.open_round(patients=20, batch_size=4, steps=5, rounds=1, releases=[1])
    assert account.spent == 0
    account.open_round(patients=20, batch_size=4, steps=5, rounds=1)
    assert account.spent == training


def test_a_run_pays_for_what_its_plugins_share(federate: Federate) -> None:
    """Two of four patients in each of two steps a round; amplitudes are shared in both rounds, quantiles in one."""
    settings = ExampleLevel(epsilon=60.0, noise=1.0, statistics_noise=7.0)
    plugins = [AmplitudeMix(min_images=2), HistogramMatching(quantiles=8, min_images=2)]
    folder = federate(aggregator=fedavg(), plugins=plugins, example_privacy=settings, rounds=2).fit(
        small_task(batch_dice=False), small_sites()
    )
    for site in ("site1", "site2", "site3"):
        ledger = Ledger(folder.sites / site / "privacy.json")
        assert ledger.charges == (Charge(1.0, 0.5, 4), Charge(7.0, 1.0, 3))
    saved = folder.load()
    assert saved is not None


def test_what_training_saw_does_not_leave(federate: Federate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise of 1e6 nothing that is shared can be near the amplitudes themselves, which are at most 1."""
    sent: list[Tensor] = []

    def take(_self: AmplitudeMix, _site: str, _count: int, shared: Any) -> None:
        sent.append(shared["amplitude"])

    monkeypatch.setattr(AmplitudeMix, "add", take)
    settings = ExampleLevel(epsilon=60.0, noise=1.0, statistics_noise=1e6)
    federate(aggregator=fedavg(), plugins=[AmplitudeMix(min_images=2)], example_privacy=settings, rounds=1).fit(
        small_task(batch_dice=False), small_sites()
    )
    assert len(sent) == 3
    assert all(float(window.max()) > 1e4 for window in sent)
