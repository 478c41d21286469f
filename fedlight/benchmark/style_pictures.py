"""Pictures of styles and features of a benchmark, for one held-out site and the first seed.

    OUTPUT/styles/styles.png      images of the sites that train in each other's styles, by every style plugin that an
                                  arm uses, as the first arm that uses it has it configured
    OUTPUT/styles/features.png    every image's channel means at the bottleneck, in a plane, before training and after:
                                  with fedavg and with every arm that aligns features
    OUTPUT/styles/index.json      what they show

The held-out site itself is not looked at.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlight.benchmark.layout import FORMAT
from fedlight.benchmark.reopened import Reopened
from fedlight.federation import Federation
from fedlight.plugins import Alignment, ClientPlugin, Harmonisation, StyleAugmentation
from fedlight.preparation import ConfigError, build, prepare, prototypes
from fedlight.run import load_model_file
from fedlight.serialization import write_bytes
from fedlight.styles import check_stage, draw_features, style_sheet

PLAIN = "fedavg"
"""The arm without alignment in the plot of features."""

STAGE = "bottleneck"
SHEET, FEATURES = "styles.png", "features.png"


def in_features(runs: Mapping[str, Reopened]) -> list[str]:
    """Returns the arms in the plot of features: plain averaging, then those that align features."""
    aligned = [arm for arm, run in runs.items() if any(isinstance(plugin, Alignment) for plugin in _plugins(run))]
    return [*(arm for arm in runs if arm == PLAIN), *aligned]


def style_plugins(runs: Mapping[str, Reopened]) -> list[ClientPlugin]:
    """Returns one plugin of every kind that changes images or their style, as the first arm has it."""
    found: dict[type, ClientPlugin] = {}
    for plugin in (plugin for run in runs.values() for plugin in _plugins(run)):
        if isinstance(plugin, (StyleAugmentation, Harmonisation)):
            found.setdefault(type(plugin), plugin)
    return list(found.values())


def _plugins(run: Reopened) -> list[ClientPlugin]:
    federation: Federation = run.federation
    return prototypes(federation.aggregator, federation.plugins)[1]


def asked_for(held_out: str, seed: int, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Returns what tells pictures of these runs from those of others."""
    return {"held_out": held_out, "seed": seed, "arms": dict(fingerprints)}


def is_drawn(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Says whether these pictures lie in a folder already."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        there = all((folder / picture["file"]).is_file() for picture in index["pictures"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return there and index.get("asked") == asked


def draw_styles(runs: Mapping[str, Reopened], asked: Mapping[str, Any], output: Path) -> list[str]:
    """Draws both pictures aside and puts them in place; the index comes last and makes them count.

    Args:
        runs: Runs of one held-out site and seed, by arm; the data are those of the first.
        asked: See ``asked_for``.
        output: The folder of the pictures.

    Returns:
        What there is to say, sentence by sentence.

    Raises:
        ConfigError: If data or network cannot be had any more.
    """
    aside = output.with_name(f"{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        captions, said = _draw(runs, f"{asked['held_out']} held out, seed {asked['seed']}", asked["seed"], aside)
        _put(aside, output, captions, asked)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return said


def _put(aside: Path, output: Path, captions: Mapping[str, str], asked: Mapping[str, Any]) -> None:
    output.mkdir(exist_ok=True)
    for name in ("index.json", SHEET, FEATURES):
        (output / name).unlink(missing_ok=True)
    for name in captions:
        (aside / name).replace(output / name)
    pictures = [{"file": name, "caption": caption} for name, caption in captions.items()]
    index = {"format": FORMAT, "asked": dict(asked), "pictures": pictures}
    write_bytes(output / "index.json", (json.dumps(index, indent=1) + "\n").encode())


def _draw(runs: Mapping[str, Reopened], where: str, seed: int, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Returns the captions of the pictures that were drawn, and what there is to say."""
    first = next(iter(runs.values()))
    prepare(first.data)
    build(first.task, first.data, (), seed)
    captions, said = _sheet(runs, where, seed, folder)
    try:
        check_stage(first.task, STAGE)
        models, left_out = _models(runs)
        shares = draw_features(first.task, first.data, folder / FEATURES, STAGE, models, seed)
        captions[FEATURES] = f"Every image's channel means at the {STAGE}, by site ({where}). {shares}"
        said += left_out
    except (ConfigError, ModuleNotFoundError) as error:
        said.append(f"There is no map of features: {error}")
    return captions, said


def _sheet(runs: Mapping[str, Reopened], where: str, seed: int, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Draws the sheet of styles, if there is anything on it."""
    first, plugins = next(iter(runs.values())), style_plugins(runs)
    idle = style_sheet(first.task, first.data, plugins, folder / SHEET, seed) if plugins else []
    said = [f"Not on the sheet of styles, as they leave these images alone: {', '.join(idle)}."] if idle else []
    if len(plugins) == len(idle):
        return {}, [*said, "There is no sheet of styles, as no arm changes how images look."]
    return {SHEET: f"Images of the sites that train in each other's styles ({where})."}, said


def _models(runs: Mapping[str, Reopened]) -> tuple[dict[str, Path], list[str]]:
    """Returns the models in the plot of features, and which are left out and why."""
    models, said = {}, []
    fitting = copy.deepcopy(next(iter(runs.values())).task)
    for arm in in_features(runs):
        folder = runs[arm].folder
        try:
            if any(folder.sites.glob("*/selected.safetensors")):
                raise ConfigError("its sites keep models of their own.")
            load_model_file(folder.selected, fitting)
            models[arm] = folder.selected
        except ConfigError as error:
            said.append(f"{arm} is not in the map of features: {error}")
    return models, said
