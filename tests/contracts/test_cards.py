"""Every method's card is complete, and what it says of bytes, sums and time is what the method does."""

from __future__ import annotations

import re

import pytest
from fedlight_algorithms import FedAvg

from fedlight.compression import Pipeline
from fedlight.plugins import Aggregator, Codec
from fedlight.plugins.card import LABELS, OPTIONAL
from fedlight.plugins.catalogue import Method, methods
from fedlight.plugins.discovery import discover
from fedlight.state import parameters_of
from tests.contracts.quickstart import Traffic, default_network, traffic, traffic_of_recipe
from tests.performance.plugin_cost import costs, said

discover()
METHODS = {method.name: method for method in methods() if method.origin == "fedlight"}
TIMED = [name for name, method in METHODS.items() if method.plugins and method.kind != "codec"]
MODEL = 1972364
"""Bytes of the 493091 parameters of plain-16 for three classes."""


@pytest.fixture(params=[*METHODS.values()], ids=[*METHODS])
def method(request: pytest.FixtureRequest) -> Method:
    found: Method = request.param
    return found


def test_a_card_has_every_part_in_order(method: Method) -> None:
    parts = list(method.card.parts)
    assert parts == [label for label in LABELS if label in parts or label not in OPTIONAL]
    for label in parts:
        assert re.fullmatch(r"[^.].*\.", method.card.said(label)), label


def test_a_card_names_its_method_and_where_it_comes_from(method: Method) -> None:
    """An arXiv id, a venue with its year, or the words "no paper"."""
    assert method.card.name
    assert re.search(r"arXiv \d{4}\.\d{4,5}|[A-Z]\w+ (19|20)\d\d|no paper", method.card.source)


def test_a_card_has_an_idea_and_a_formula(method: Method) -> None:
    assert not method.card.body[0].verbatim
    assert method.card.formula


def test_what_a_card_says_of_secure_aggregation_agrees_with_the_aggregator(method: Method) -> None:
    said = method.card.secure_aggregation
    assert said in ("yes", "no", "possible")
    for info in method.plugins:
        if issubclass(info.cls, Aggregator):
            assert said == ("yes" if info.cls.linear else "no"), info.name


def test_a_card_states_the_bytes_that_cross(method: Method) -> None:
    stated = method.card.shared_bytes
    assert stated is not None, 'say "nothing" or "N bytes up and M down with four sites" under Shared'
    for found in weighed(method):
        assert found == Traffic(*stated, MODEL - method.card.kept_bytes)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.kind == "codec"])
def test_a_codecs_card_states_the_bytes_of_the_default_network(name: str) -> None:
    """Those that follow from the layout; of a lossless one they depend on what is written."""
    (info,) = METHODS[name].plugins
    if issubclass(info.cls, Codec):
        size = Pipeline([info.cls()], parameters_of(default_network())).num_bytes()
        assert f"{size} bytes in place of {MODEL}" in METHODS[name].card.said("Shared")


def weighed(method: Method) -> list[Traffic]:
    if method.kind == "codec":
        return []
    if method.recipe:
        return [traffic_of_recipe(method.recipe)]
    made = [info.cls() for info in method.plugins]
    return [
        traffic(plugin) if isinstance(plugin, Aggregator) else traffic(FedAvg(), [plugin])  # type: ignore[list-item]
        for plugin in made
    ]


@pytest.mark.parametrize("name", TIMED)
def test_a_card_states_the_time_that_was_measured(name: str) -> None:
    """In hundredths, as in docs/methods/costs.csv; nothing is measured here.

    After a measurement: ``python tests/performance/plugin_cost.py --cards``.
    """
    assert METHODS[name].card.times == said(METHODS[name], costs())
