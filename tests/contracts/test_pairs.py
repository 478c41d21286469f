"""Any aggregator works with any client plugin, and any two client plugins with each other in both orders.

A pair may refuse to work together, in one sentence when the config is read. The usual run takes a seeded sample of the
pairs in which every plugin is there at least once; the mark ``slow`` takes all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg

from fedlight.plugins import Aggregator, ClientPlugin, Plugin
from fedlight.plugins.combinations import check_shared
from fedlight.plugins.discovery import discover, registered
from fedlight.preparation import prototypes
from fedlight.randomness import generator
from fedlight.state import parameters_of
from tests.contracts.harness import SITES, Clinic, TinySites, task

discover()
AGGREGATORS = [info.cls for info in registered() if issubclass(info.cls, Aggregator)]
CLIENTS = [info.cls for info in registered() if issubclass(info.cls, ClientPlugin)]
PAIRS: list[tuple[type[Plugin], type[Plugin]]] = [
    *itertools.product(AGGREGATORS, CLIENTS),
    *itertools.permutations(CLIENTS, 2),
]
EXTRA = 20
"""Pairs of the usual run beyond those that every plugin needs to be there."""


def sample(pairs: Sequence[tuple[Any, Any]], extra: int) -> list[tuple[Any, Any]]:
    """Draws pairs until every member was there and then some more; they stay in their own order."""
    order = torch.randperm(len(pairs), generator=generator(0, "pairs")).tolist()
    there: set[Any] = set()
    needed: list[int] = []
    rest: list[int] = []
    for index in order:
        (rest if there.issuperset(pairs[index]) else needed).append(index)
        there.update(pairs[index])
    return [pairs[index] for index in sorted([*needed, *rest[:extra]])]


USUAL = sample(PAIRS, EXTRA)


def play(first: type[Any], second: type[Any]) -> Clinic | None:
    """Plays two rounds with both plugins, or None if they refuse each other when the config is read."""
    aggregator, plugins = (first(), [second()]) if issubclass(first, Aggregator) else (FedAvg(), [first(), second()])
    try:
        check_shared(prototypes(aggregator, plugins)[1], parameters_of(task()))
    except ValueError as error:
        assert_one_sentence(str(error))
        return None
    return Clinic.of(aggregator, plugins, TinySites(SITES[:2], cases=5), rounds=2).play(2)


def assert_one_sentence(text: str) -> None:
    """A sentence or two (the rule; the way out), on one line, that end in a full stop."""
    assert text.endswith(".")
    assert "\n" not in text
    assert 20 < len(text) < 400


def works(first: type[Plugin], second: type[Plugin]) -> None:
    clinic = play(first, second)
    if clinic is not None:
        assert clinic.server.round == 2
        assert all(bool(value.isfinite().all()) for value in clinic.server.params.values())


@cache
def identity(pair: tuple[type[Plugin], type[Plugin]]) -> str:
    return "-".join(cls.__name__ for cls in pair)


@pytest.mark.parametrize(("first", "second"), [pytest.param(*pair, id=identity(pair)) for pair in USUAL])
def test_a_pair_works_or_says_why_not(first: type[Plugin], second: type[Plugin]) -> None:
    works(first, second)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [pytest.param(*pair, id=identity(pair)) for pair in PAIRS if pair not in USUAL]
)
def test_every_other_pair_works_or_says_why_not(first: type[Plugin], second: type[Plugin]) -> None:
    works(first, second)


def test_the_sample_has_every_plugin_and_is_the_same_every_time() -> None:
    assert {cls for pair in USUAL for cls in pair} == {*AGGREGATORS, *CLIENTS}
    assert sample(PAIRS, EXTRA) == USUAL
    assert len(USUAL) <= len(AGGREGATORS) + len(CLIENTS) + EXTRA
