"""Every registered plugin keeps every promise of its extension point."""

from __future__ import annotations

import doctest
import sys
from typing import Any

import pytest

from fedlight.plugins.discovery import discover, registered
from tests.contracts.checks import checks_of

discover()
PLUGINS = registered()
WITHOUT_NULL = {
    "Local",  # one model a site
    "AllPrivate",
    "DPFedAvg",  # every site counts alike
    "CoordinateMedian",  # these count sites alike, whatever their cases
    "Krum",
    "MultiKrum",
    "TrimmedMean",
    "FedNova",  # FedAvg where all sites do the same work, whatever its arguments
    "Half",  # these always lose something
    "LowRank",
    "Quantise",
}
"""No setting of these is FedAvg."""
WITHOUT_ARXIV = {"Half", "Zstd", "Local", "AllPrivate", "FedDGGA", "HistogramMatching"}


@pytest.mark.parametrize(
    ("cls", "check"),
    [pytest.param(p.cls, check, id=f"{p.name}-{check.__name__}") for p in PLUGINS for check in checks_of(p.cls)],
)
def test_every_plugin(cls: Any, check: Any) -> None:
    check(cls)


def test_every_bundled_plugin_has_a_null_setting() -> None:
    assert {p.name for p in PLUGINS if p.origin == "fedlight" and p.cls.null is None} == WITHOUT_NULL


def test_every_bundled_plugin_has_a_card() -> None:
    """A first sentence, and a module docstring with the paper's arXiv id, if it has one."""
    for p in PLUGINS:
        assert p.summary.endswith("."), p.name
        assert p.papers or p.name in WITHOUT_ARXIV, p.name


def test_examples_in_docstrings_hold() -> None:
    for module in {p.cls.__module__ for p in PLUGINS}:
        assert doctest.testmod(sys.modules[module]).failed == 0
