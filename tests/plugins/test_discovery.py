"""One door: entry points, loose files, a clone without installation."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from jsonargparse import ArgumentParser

from fedlight.plugins import Aggregator, ClientPlugin, discovery
from fedlight.plugins.discovery import VARIABLE, discover, find, registered
from tests.contracts.harness import own_registry

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = '''
"""A way to average (arXiv 1234.56789)."""

from fedlight.plugins import Aggregator


class {name}(Aggregator):
    """Averages in some way."""

    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def begin(self, context, params): ...
    def add(self, update): ...
    def finish(self): ...
'''


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with own_registry():
        discover()
        yield


def loose_file(folder: Path, stem: str, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.py"
    path.write_text(PLUGIN.format(name=name))
    return path


def third_party(folder: Path, module: str, source: str) -> None:
    """Lays an installed package into a folder: a module and the metadata of its distribution."""
    (folder / f"{module}.py").write_text(source)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[fedlight.plugins]\nmethods = {module}\n")


def named() -> dict[str, discovery.PluginInfo]:
    return {info.name: info for info in registered()}


# --- what is found ---------------------------------------------------------------------------------------------------


def test_bundled_algorithms_are_found_with_what_they_are() -> None:
    info = named()["FedProx"]
    assert (info.kind, info.origin, info.papers) == ("client plugin", "fedlight", ("1812.06127",))
    assert info.summary == "Pulls a site's parameters towards the model that it was sent."
    assert "mu/2 ||w - w_t||^2" in info.card.formula


def test_abstract_classes_and_those_of_tests_are_not_listed() -> None:
    class Stray(ClientPlugin):
        """Defined in a test."""

    assert not {"Aggregator", "StyleAugmentation", "Alignment", "ClientPlugin", "Plugin", Stray.__name__} & set(named())


def test_a_loose_file_is_found_and_works_in_yaml_by_bare_name(tmp_path: Path) -> None:
    path = loose_file(tmp_path, "loose_one", "LooseOne")
    discover([path])
    info = named()["LooseOne"]
    assert (info.kind, info.origin, info.papers) == ("aggregator", str(path), ("1234.56789",))
    assert built("{class_path: LooseOne, init_args: {power: 3}}").power == 3  # type: ignore[attr-defined]


def test_a_third_party_package_is_found_and_works_in_yaml_by_bare_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_party(tmp_path, "third_party", PLUGIN.format(name="ThirdParty"))
    monkeypatch.syspath_prepend(str(tmp_path))
    discover()
    assert named()["ThirdParty"].origin == "third_party"
    assert type(built("ThirdParty")).__module__ == "third_party"


def test_a_broken_package_is_left_out_with_one_sentence_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third_party(tmp_path, "broken_party", "import does_not_exist_anywhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match=r"plugins of broken_party are left out: .*ModuleNotFoundError"):
        discover()
    discover()
    assert "FedAvg" in named()


def test_files_of_the_environment_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (loose_file(tmp_path, f"from_{n}", f"From{n}") for n in ("one", "two"))
    monkeypatch.setenv(VARIABLE, f"{first}{os.pathsep}{second}")
    discover()
    assert {"Fromone", "Fromtwo"} <= set(named())


def test_loading_a_file_twice_is_loading_it_once(tmp_path: Path) -> None:
    path = loose_file(tmp_path, "loose_twice", "LooseTwice")
    discover([path])
    cls = find("LooseTwice").cls
    discover([str(path)])
    assert find("LooseTwice").cls is cls


def built(setting: str) -> Aggregator:
    parser = ArgumentParser()
    parser.add_argument("--aggregator", type=Aggregator)
    config = parser.parse_args([f"--aggregator={setting}"])
    aggregator: Aggregator = parser.instantiate(config).aggregator
    return aggregator


# --- other processes -------------------------------------------------------------------------------------------------


def test_a_loose_plugin_survives_a_pickle_and_reaches_spawned_processes(tmp_path: Path) -> None:
    discover([loose_file(tmp_path, "loose_spawn", "LooseSpawn")])
    plugin = find("LooseSpawn").cls(power=3.0)  # type: ignore[call-arg]
    assert type(pickle.loads(pickle.dumps(plugin))) is type(plugin)
    script = "import pickle, sys; from fedlight.plugins.discovery import discover; discover();"
    script += "plugin = pickle.load(sys.stdin.buffer); print(type(plugin).__name__, plugin.power)"
    run = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(plugin), capture_output=True, check=True)
    assert run.stdout.decode().split() == ["LooseSpawn", "3.0"]


def test_a_clone_without_installation_finds_its_own_algorithms(tmp_path: Path) -> None:
    """``-S`` keeps editable finders out; the dependencies come in by path."""
    script = dedent(
        f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}]
        sys.path += {[path for path in sys.path if "site-packages" in path]!r}
        import fedlight.plugins.discovery as discovery
        discovery.entry_points = lambda **_: ()
        discovery.discover()
        info = discovery.find("FedProx")
        print(info.origin, info.cls.__module__, sys.modules["fedlight_algorithms"].__file__)
        """
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=120
    )
    expected = ["fedlight", "fedlight_algorithms.fedprox", str(ROOT / "algorithms" / "__init__.py")]
    assert run.stdout.split() == expected


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_two_plugins_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    first, second = (loose_file(tmp_path, f"double_{n}", "Double") for n in ("one", "two"))
    with pytest.raises(ValueError, match=f"plugin names must differ, got Double in {first} and {second}"):
        discover([first, second])


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    first, second = (loose_file(tmp_path / n, "same_stem", f"Stem{n}") for n in ("a", "b"))
    with pytest.raises(ValueError, match="names of loose files must differ"):
        discover([first, second])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"load must name plugin files that exist, got .*nowhere\.py\. Check the path"):
        discover([tmp_path / "nowhere.py"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef broken(:\n", r"loose_bad.py, line 2, fails with SyntaxError"),
        ("x = 1\n\nimport does_not_exist\n", r"loose_bad.py, line 3, fails with ModuleNotFoundError"),
        ("def f():\n    1 / 0\nf()\n", r"loose_bad.py, line 2, fails with ZeroDivisionError"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "loose_bad.py"
    path.write_text(source)
    with pytest.raises(ValueError, match=message):
        discover([path])
    assert "fedlight_loaded.loose_bad" not in sys.modules


def test_a_file_that_failed_can_be_mended_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "loose_mended.py"
    path.write_text("1 / 0")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        discover([path])
    discover([loose_file(tmp_path, "loose_mended", "LooseMended")])
    assert "LooseMended" in named()


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*FedProx.*, got fedprx\. Did you mean FedProx"):
        find("fedprx")
    with pytest.raises(
        ValueError, match=r"aggregator must be one of .*FedAvg, FedAvgAlign, FedAvgM, .*Local, .*got MixStyle\."
    ):
        find("MixStyle", Aggregator)
