"""Every YAML of an algorithm composes with others and says the defaults."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from fedlight.__main__ import main
from fedlight.plugins import Aggregator, ClientPlugin, Codec, Lossless
from fedlight.plugins.discovery import discover, find, registered
from tests.contracts.harness import TinySites

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "algorithms"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
RECIPES = {"bigaug_half", "fedavg_align_layers", "style_align"}
"""Say something other than the defaults."""
HALVES = {
    "AllPrivate",
    "ClippedChange",
    "DynamicRegularizer",
    "MomentAlignment",
    "ScaffoldControl",
}
"""Come with their aggregators."""

BASE = """
data: {class_path: tests.contracts.harness.TinySites}
federation: {aggregator: FedAvg, plugins: [{class_path: MixStyle, init_args: {alpha: 0.3}}]}
"""


class Sites(TinySites):
    def __init__(
        self, cases: int = 6, pooled: bool = False, normalise: str = "none", transforms: Sequence[dict[str, Any]] = ()
    ) -> None:
        super().__init__(cases=cases)
        self.pooled = pooled


def composed(tmp_path: Path, *files: Path) -> Any:
    discover()
    base = tmp_path / "base.yaml"
    base.write_text(BASE.replace("tests.contracts.harness.TinySites", "Sites"))
    parser = ArgumentParser()
    parser.add_argument("-c", "--config", action="config")
    parser.add_subclass_arguments(TinySites, "data", instantiate=True)
    parser.add_argument("--federation.aggregator", type=Aggregator)
    parser.add_argument("--federation.evaluate_every", type=int, default=1)
    parser.add_argument("--federation.plugins", type=list[ClientPlugin])
    parser.add_argument("--federation.uplink", type=list[Codec | Lossless])
    parser.add_argument("--federation.buffers", type=str)
    arguments = [part for file in (base, *files) for part in ("-c", str(without_model(file, tmp_path)))]
    return parser.instantiate(parser.parse_args(arguments))


def without_model(file: Path, tmp_path: Path) -> Path:
    """The parser here knows no task; what files say about it is read by the command line below."""
    copy = tmp_path / f"{file.stem}-federation.yaml"
    copy.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "model"}))
    return copy


def mentioned(setting: Any) -> list[tuple[str, dict[str, Any]]]:
    """Returns class names and arguments of a config, at whatever depth."""
    if isinstance(setting, list):
        return [found for part in setting for found in mentioned(part)]
    if not isinstance(setting, dict):
        return []
    own = [(setting["class_path"], setting.get("init_args", {}))] if "class_path" in setting else []
    return own + [found for part in setting.values() for found in mentioned(part)]


@pytest.mark.parametrize("name", FILES)
def test_a_config_composes_with_a_base(name: str, tmp_path: Path) -> None:
    """Aggregators replace, client plugins are put behind those of the base."""
    built = composed(tmp_path, FILES[name])
    setting = yaml.safe_load(FILES[name].read_text())
    plugins = [type(plugin).__name__ for plugin in built.federation.plugins]
    added = [part["class_path"] for part in setting.get("federation", {}).get("plugins+", [])]
    assert plugins == ["MixStyle", *added]
    assert built.federation.plugins[0].alpha == 0.3
    assert built.data.pooled == (name == "pooled")
    aggregator = setting.get("federation", {}).get("aggregator", "FedAvg")
    expected = aggregator["class_path"] if isinstance(aggregator, dict) else aggregator
    assert type(built.federation.aggregator).__name__ == expected


@pytest.mark.parametrize("name", [name for name in FILES if "model" in yaml.safe_load(FILES[name].read_text())])
def test_a_config_that_changes_the_task_composes_on_the_command_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart = FOLDER.parent / "quickstart.yaml"
    with pytest.raises(SystemExit):
        main(["fit", "-c", str(quickstart), "-c", str(FILES[name]), "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    for key, value in yaml.safe_load(FILES[name].read_text())["model"]["init_args"].items():
        if isinstance(value, dict):
            assert config[key]["class_path"] == value["class_path"]
            assert config[key]["init_args"].items() >= value["init_args"].items()
        else:
            assert config[key] == value


def test_all_configs_compose_in_a_row(tmp_path: Path) -> None:
    names = ("adain", "amplitude_mix", "fedprox", "fedavgm")
    built = composed(tmp_path, *(FILES[name] for name in names)).federation
    assert [type(plugin).__name__ for plugin in built.plugins] == ["MixStyle", "AdaIN", "AmplitudeMix", "FedProx"]
    assert type(built.aggregator).__name__ == "FedAvgM"


@pytest.mark.parametrize("name", sorted(set(FILES) - RECIPES))
def test_a_config_shows_every_argument_with_its_default(name: str) -> None:
    for class_name, arguments in mentioned(yaml.safe_load(FILES[name].read_text()).get("federation", {})):
        parameters = inspect.signature(find(class_name).cls).parameters.values()
        defaults = {p.name: list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters}
        defaults.pop("eps", None)
        assert arguments == defaults


def test_every_algorithm_has_a_config() -> None:
    texts = "".join(path.read_text() for path in FILES.values())
    assert {p.name for p in registered() if p.origin == "fedlight" and p.name not in texts} == HALVES
