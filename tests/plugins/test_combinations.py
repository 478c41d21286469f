"""Plugins that cannot work together are refused in one sentence, and those that seem odd but make sense are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedlight_algorithms import (
    CORAL,
    EMA,
    MOON,
    SWA,
    AllPrivate,
    AmplitudeMix,
    Ditto,
    FedAvg,
    FedAvgAlign,
    FedBN,
    FedDGGA,
    FedGAMMA,
    FedPer,
    FedProx,
    FedSAM,
    HarmoFL,
    Local,
    MomentAlignment,
    Prototypes,
    Scaffold,
    ScaffoldControl,
)

from fedlight.federation import Federation
from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.combinations import check_shared
from fedlight.preparation import ConfigError, build, prototypes
from fedlight.state import digest, parameters_of
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, TinySites, task

REFUSED: list[tuple[Aggregator, list[ClientPlugin], str]] = [
    (FedAvg(), [HarmoFL(), FedSAM()], "at most one that takes the gradient at other parameters, got HarmoFL, FedSAM."),
    (FedAvg(), [FedGAMMA(), FedSAM()], "at most one that takes the gradient at other parameters, got FedGAMMA, FedSAM"),
    (
        FedAvg(),
        [Ditto(), Ditto(lam=1.0)],
        "at most one that keeps a personal model, got Ditto, Ditto.",
    ),
    (Local(), [AllPrivate()], "AllPrivate comes with Local already. Leave it out of plugins."),
    (FedAvgAlign(), [MomentAlignment()], "MomentAlignment comes with FedAvgAlign already. Leave it out of plugins."),
    (Scaffold(), [FedGAMMA()], "at most one with control variates, got ScaffoldControl, FedGAMMA. Keep one of them."),
    (FedAvg(), [ScaffoldControl(), FedGAMMA()], "at most one with control variates, got ScaffoldControl, FedGAMMA."),
    (FedDGGA(), [Ditto()], "Ditto: evaluate must be global under FedDGGA, which weighs sites by how the global model"),
]


@pytest.mark.parametrize(("aggregator", "plugins", "sentence"), REFUSED, ids=[case[2][-30:] for case in REFUSED])
def test_what_cannot_work_together_is_refused(
    aggregator: Aggregator, plugins: list[ClientPlugin], sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        prototypes(aggregator, plugins)
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("plugin", [FedProx(), MOON(), Ditto(), SWA(), EMA(), FedGAMMA(), ScaffoldControl()])
@pytest.mark.parametrize(
    ("aggregator", "others"), [(Local(), []), (FedAvg(), [FedPer(parts=[""])])], ids=["Local", "FedPer of everything"]
)
def test_what_works_on_a_shared_model_is_refused_where_there_is_none(
    aggregator: Aggregator, others: list[ClientPlugin], plugin: ClientPlugin
) -> None:
    sites = small_sites()
    sites.prepare()
    half, plugins = prototypes(aggregator, [*others, plugin])
    name = type(plugin).__name__
    with pytest.raises(ConfigError, match=rf"^{name} needs a model that the sites share, .* Leave {name} out\.$"):
        build(small_task(), sites, [half, *plugins], seed=0)


@pytest.mark.parametrize(
    ("aggregator", "plugins"),
    [
        (FedDGGA(), [Ditto(evaluate="global")]),
        (Local(), [Prototypes()]),  # sites with models of their own agree on class features: FedProto
        (Local(), [CORAL()]),
        (Local(), [FedSAM()]),
        (FedAvg(), [Ditto(), FedPer()]),
        (FedAvg(), [FedBN(), FedProx()]),
        (FedAvg(), [FedProx(mu=0.1), FedProx(mu=0.2)]),
        (FedAvg(), [SWA(start=0.0), EMA()]),
        (Scaffold(), [FedSAM()]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Aggregator) else "",
)
def test_what_makes_sense_runs(aggregator: Aggregator, plugins: list[Any]) -> None:
    check_shared(prototypes(aggregator, plugins)[1], parameters_of(task()))
    server = Clinic.of(aggregator, plugins, TinySites(("A", "B")), rounds=2).play(2).server
    assert all(bool(value.isfinite().all()) for value in server.params.values())


def test_harmonisation_acts_first_wherever_it_is_listed() -> None:
    """If it came last, as when two recipes are composed, mixed amplitudes would be overwritten by harmonised ones."""
    late, early = [AmplitudeMix(p=1.0), HarmoFL()], [HarmoFL(), AmplitudeMix(p=1.0)]
    assert [type(plugin).__name__ for plugin in prototypes(FedAvgAlign(), late)[1]] == [
        *("HarmoFL", "MomentAlignment", "AmplitudeMix")
    ]
    last, first = (Clinic.of(FedAvg(), plugins).play(3).server.params for plugins in (late, early))
    assert digest(last) == digest(first)


def test_two_pulls_add_up() -> None:
    """Mu 0.1 and 0.2 are mu 0.3."""
    both, one = (
        Clinic.of(FedAvg(), plugins).play(2).server.params
        for plugins in ([FedProx(mu=0.1), FedProx(mu=0.2)], [FedProx(mu=0.3)])
    )
    for name, value in both.items():
        torch.testing.assert_close(value, one[name])


@pytest.mark.parametrize("policy", ["local", "recalibrate"])
def test_a_policy_for_statistics_that_a_network_does_not_have_is_refused(
    federate: Callable[..., Federation], policy: str
) -> None:
    """SiloBN's recipe without BatchNorm would be FedAvg by another name. FedBN keeps scales and shifts all the same."""
    with pytest.raises(ConfigError, match=rf"buffers must be average .* got {policy}\. .*model.norm to batch"):
        federate(rounds=1, buffers=policy).fit(small_task(), small_sites())
    federate(rounds=1, buffers=policy, plugins=[FedBN()]).fit(small_task(), small_sites())
