"""What is listed, explained and written: files of algorithms, recipes, arguments."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fedlight_algorithms import FedAvg, FedAvgAlign, MixStyle, NormClipping
from jsonargparse import ArgumentParser

from fedlight.plugins import Aggregator, ClientPlugin, Codec, Lossless, StyleAugmentation, catalogue
from fedlight.plugins.catalogue import Argument, arguments_of, config_of, halves, methods, switches
from fedlight.plugins.discovery import PluginInfo, discover, find, registered

ROOT = Path(__file__).resolve().parents[2]
discover()


class Bright(StyleAugmentation):
    """Adds a number.

    Args:
        by: The number; the default is
            small: one tenth.
        places: Where.

    Raises:
        by: Nothing.
    """

    def __init__(
        self, by: float = 0.1, places: Sequence[str] = ("a", "b"), what: object = None, more: str = ""
    ) -> None:
        self.by, self.places, self.what, self.more = by, places, what, more


def test_arguments_come_with_default_and_meaning() -> None:
    assert arguments_of(Bright) == [
        Argument("by", "0.1", "The number; the default is small: one tenth."),
        Argument("places", "[a, b]", "Where."),
        Argument("what", "null", ""),
        Argument("more", "''", ""),
    ]
    assert arguments_of(FedAvg) == []


@pytest.mark.parametrize("info", registered(), ids=lambda info: info.name)
def test_every_argument_is_explained(info: PluginInfo) -> None:
    if info.origin == "fedlight":
        assert not [each.name for each in arguments_of(info.cls) if not each.meaning]


def test_defaults_are_written_as_yaml_takes_them() -> None:
    """What the card shows can be put behind the argument's name."""
    for cls in (MixStyle, FedAvgAlign, NormClipping):
        parser = ArgumentParser()
        parser.add_class_arguments(cls, "plugin")
        given = [f"--plugin.{each.name}={each.default}" for each in arguments_of(cls)]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults(cls).items()}
        assert vars(parser.parse_args(given).plugin) == plain


def defaults(cls: type) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(cls).parameters.values()}


def test_client_halves_are_known_by_their_aggregators() -> None:
    assert halves()["MomentAlignment"] == "FedAvgAlign"
    assert not halves().keys() & {info.name for method in methods() for info in method.plugins}


def test_every_plugin_of_fedlight_has_a_config_of_its_name() -> None:
    for info in registered():
        if info.origin == "fedlight":
            config = config_of(info)
            assert (config is None) == (info.name in halves())
            assert config is None or (ROOT / config).is_file()


def test_a_config_without_a_plugin_is_a_recipe_with_the_card_at_its_head() -> None:
    recipes = {method.name: method for method in methods() if method.kind == "recipe"}
    assert {"style_align", "silobn", "pooled", "fedavg_align_layers"} <= recipes.keys()
    assert recipes["silobn"].card.name == "SiloBN"
    assert recipes["silobn"].recipe.startswith("model:\n")


@pytest.mark.parametrize("info", registered(), ids=lambda info: info.name)
def test_what_is_said_to_switch_a_plugin_on_does(info: PluginInfo) -> None:
    parser = ArgumentParser()
    parser.add_argument("--federation.aggregator", type=Aggregator)
    parser.add_argument("--federation.plugins", type=list[ClientPlugin])
    parser.add_argument("--federation.uplink", type=list[Codec | Lossless])
    built = parser.instantiate(parser.parse_args(switches(info)[-1].split())).federation
    assert type(built.aggregator or (built.plugins or built.uplink)[0]).__name__ == info.name


def test_an_installation_without_the_repository_has_the_recipes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel holds the configs beside the algorithms; there is no folder configs/ above the package."""
    package = tmp_path / "fedlight_algorithms"
    shutil.copytree(ROOT / "configs" / "algorithms", package / "configs")
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "fedlight" / "plugins" / "catalogue.py"))
    monkeypatch.setattr("fedlight_algorithms.__file__", str(package / "__init__.py"))
    assert "silobn" in {method.name for method in methods()}
    assert config_of(find("FedProx")) == "configs/algorithms/fedprox.yaml"
    shutil.rmtree(package)
    assert "silobn" not in {method.name for method in methods()}
    assert config_of(find("FedProx")) is None
