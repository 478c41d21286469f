"""The catalogue of methods: one card for every file of algorithms, and for every config that is a method by itself.

A config of ``configs/algorithms/`` belongs to the plugin of its name (``feddg_ga.yaml`` to ``FedDGGA``). One without
such a plugin is a recipe, and the comment at its head is the recipe's card.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedlight.plugins.aggregator import Aggregator
from fedlight.plugins.card import Card, parse
from fedlight.plugins.discovery import BUNDLED, PluginInfo, registered

FAMILIES: Mapping[str, str] = {
    "aggregator": "Aggregators (a run has one)",
    "client plugin": "Client plugins (they add up, like all below)",
    "style": "Style augmentation",
    "alignment": "Feature alignment",
    "harmonisation": "Harmonisation",
    "codec": "Codecs (one after the other)",
    "recipe": "Recipes (a config each)",
}
"""Headings of the extension points, in the order in which they are listed; others come behind under their own names."""

CONFIGS = "configs/algorithms"

_SETTINGS: Mapping[str, str] = {"aggregator": "aggregator ", "codec": "uplink+="}
"""What follows ``--federation.`` to switch a plugin on; for all others ``plugins+=``."""


@dataclass(frozen=True, slots=True)
class Method:
    """One card and what it describes.

    Attributes:
        name: Stem of the file: of the algorithm, or of the config that is the recipe.
        kind: The extension point of its plugins, or "recipe".
        card: What its docstring or comment says.
        plugins: The plugins of the file, without the client halves of its aggregators.
        origin: "fedlight", the name of another installed package, or the path of a loose file.
        recipe: The config without its comment, if the method is one.
    """

    name: str
    kind: str
    card: Card
    plugins: tuple[PluginInfo, ...] = ()
    origin: str = "fedlight"
    recipe: str = ""

    @property
    def title(self) -> str:
        """Names of its plugins as configs use them, or the recipe's."""
        return ", ".join(info.name for info in self.plugins) or self.name

    @property
    def summary(self) -> str:
        """What it does in one sentence, beginning with a capital."""
        phrase = self.card.phrase
        return f"{phrase[:1].upper()}{phrase[1:]}."


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a plugin: its name, its default as YAML writes it, and what the docstring says of it."""

    name: str
    default: str
    meaning: str


def methods() -> list[Method]:
    """Lists all methods by family, in the order of ``FAMILIES``, then by name."""
    found = [*_of_files(), *_recipes()]
    order = {kind: index for index, kind in enumerate(FAMILIES)}
    return sorted(found, key=lambda each: (order.get(each.kind, len(order)), each.kind, each.title.lower()))


def halves() -> dict[str, str]:
    """Returns the names of the client halves that come with an aggregator, each with the aggregator's name."""
    found: dict[str, str] = {}
    for info in registered():
        if issubclass(info.cls, Aggregator):
            with contextlib.suppress(Exception):  # somebody else's constructor
                half = info.cls().client_half()
                found |= {} if half is None else {type(half).__name__: info.name}
    return found


def config_of(info: PluginInfo) -> str | None:
    """Returns the path of a bundled plugin's own config, from the root of the repository.

    It is text: an installation without the repository has the file elsewhere.
    """
    stems = {plain(stem): stem for stem in _configs()}
    stem = stems.get(plain(info.name)) if info.origin == "fedlight" else None
    return None if stem is None else f"{CONFIGS}/{stem}.yaml"


def switches(info: PluginInfo) -> list[str]:
    """Returns what switches a plugin on behind ``fedlight fit -c CONFIG``: its own config, if any, or its name."""
    config = config_of(info)
    setting = _SETTINGS.get(info.kind, "plugins+=")
    loaded = f"--load {info.origin} " if info.origin.endswith(".py") else ""
    return [*([] if config is None else [f"-c {config}"]), f"{loaded}--federation.{setting}{info.name}"]


def arguments_of(cls: type) -> list[Argument]:
    """Lists the arguments of a plugin's constructor with what the class's docstring says of them."""
    meanings = _documented(inspect.cleandoc(cls.__doc__ or ""))
    parameters = inspect.signature(cls).parameters.values()
    return [Argument(p.name, _written(p.default), meanings.get(p.name, "")) for p in parameters]


# --- where methods come from ----------------------------------------------------------------------------------------


def _of_files() -> list[Method]:
    taken = halves()
    files: dict[str, list[PluginInfo]] = {}
    for info in registered():
        if info.name not in taken:
            files.setdefault(info.cls.__module__, []).append(info)
    return [
        Method(module.rpartition(".")[2], infos[0].kind, infos[0].card, tuple(infos), infos[0].origin)
        for module, infos in files.items()
    ]


def _recipes() -> list[Method]:
    plugins = {plain(info.name) for info in registered()}
    found = []
    for stem, path in _configs().items():
        if plain(stem) not in plugins:
            comment, setting = _head(path.read_text(encoding="utf-8"))
            found.append(Method(stem, "recipe", parse(comment), recipe=setting))
    return found


def _head(text: str) -> tuple[str, str]:
    """Splits a config into the comment at its head and all else."""
    lines = text.splitlines()
    count = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = (line.removeprefix("#").removeprefix(" ") for line in lines[:count])
    return "\n".join(comment), "\n".join(lines[count:])


def _configs() -> dict[str, Path]:
    """Finds the configs of algorithms by stem: in the repository, or where an installation keeps them."""
    places = [Path(__file__).resolve().parents[2] / CONFIGS]
    if (bundled := getattr(sys.modules.get(BUNDLED), "__file__", None)) is not None:
        places.append(Path(bundled).parent / "configs")
    folder = next((place for place in places if place.is_dir()), None)
    return {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def plain(name: str) -> str:
    """Writes a name so that a class and its config agree: FedDGGA and feddg_ga are feddgga."""
    return name.replace("_", "").replace("-", "").lower()


# --- arguments -------------------------------------------------------------------------------------------------------


def _documented(docstring: str) -> dict[str, str]:
    """Returns the entries of a docstring's section "Args"."""
    section = docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("    ") and line[4:5].strip() and ": " in line:
            name, _, meaning = line.strip().partition(": ")
            found[name] = meaning
        elif found:
            last = next(reversed(found))
            found[last] += f" {line.strip()}"
    return found


def _written(default: Any) -> str:
    """Returns a default as YAML writes it; empty if there is none."""
    if default is inspect.Parameter.empty:
        return ""
    plain = list(default) if isinstance(default, tuple) else default
    try:
        return str(yaml.safe_dump([plain], default_flow_style=True, width=1000)).strip()[1:-1]
    except yaml.YAMLError:  # somebody else's object
        return repr(default)
