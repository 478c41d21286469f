"""Random search of a method's own settings, the same number of trials for every arm and held-out site.

A file says which arguments of an arm's plugins may change, and how::

    style_align:
      FedAvgAlign.weight: { log_uniform: [0.001, 1] }
      CrossMixStyle.p: [0.25, 0.5, 1.0]

Trial 0 is the arm as it is, every further trial draws all of them anew, the same at every held-out site. A trial trains
on the first seed and is never scored at the held-out site: the highest mean Dice on validation cases of the sites that
trained decides, and the arm with those settings is compared as ``style_align@tuned``, in all seeds.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from fedlight.benchmark.layout import TUNED
from fedlight.benchmark.plan import Arm, Job
from fedlight.benchmark.runner import Runner
from fedlight.configs import read_config
from fedlight.messages import nearest
from fedlight.plugins.discovery import discover, registered
from fedlight.preparation import ConfigError
from fedlight.randomness import generator
from fedlight.serialization import write_bytes

Space = Mapping[str, Any]
"""Of one arm: from "Class.argument" to a list of values, {uniform: [low, high]} or {log_uniform: [low, high]}."""

_RANGES = ("uniform", "log_uniform")


@dataclass(frozen=True)
class Search:
    """The trials of a benchmark.

    Args:
        spaces: By name of an arm.
        trials: Trials of every arm at every held-out site, that of its own settings among them.
        seed: Seed of the trials' training, and of what is drawn.
        folder: Of the search, for the configs of its trials.
    """

    spaces: Mapping[str, Space]
    trials: int
    seed: int
    folder: Path

    def jobs(self, arms: Sequence[Arm], sites: Sequence[str]) -> list[Job]:
        """Returns the jobs that have to be trained for the search; those of trial 0 are the benchmark's own.

        Raises:
            ConfigError: If a space names no arm of the benchmark, or what its configs do not have.
        """
        known = {arm.name: arm for arm in arms}
        for name in self.spaces:
            if name not in known:
                raise ConfigError(f"--search must name arms of this benchmark, got {name}. {nearest(name, known)}")
        searched = [known[name] for name in self.spaces]
        return [
            Job(self._variant(arm, trial), (site,), self.seed)
            for site in sites
            for arm in searched
            for trial in range(1, self.trials)
        ]

    def tuned(self, arms: Sequence[Arm], sites: Sequence[str], own: Runner, trials: Runner) -> dict[str, list[Arm]]:
        """Chooses settings by source validation.

        Args:
            arms: The arms of the benchmark.
            sites: The held-out sites.
            own: Has the results of the arms with their own settings.
            trials: Has the results of the trials.

        Returns:
            For every held-out site the tuned arms; an arm of which no trial succeeded is left out.
        """
        return {
            site: [
                arm for arm in (self._best(arm, site, own, trials) for arm in arms if arm.name in self.spaces) if arm
            ]
            for site in sites
        }

    def _best(self, arm: Arm, site: str, own: Runner, trials: Runner) -> Arm | None:
        """Returns the variant with the highest validation Dice, the first of several."""
        variants = [arm, *(self._variant(arm, trial) for trial in range(1, self.trials))]
        scored = [
            (validation_dice(found), variant)
            for variant, runner in zip(variants, [own, *[trials] * (self.trials - 1)], strict=True)
            if (found := runner.result(Job(variant, (site,), self.seed))) is not None
        ]
        if not scored:
            return None
        _, best = max(scored, key=lambda pair: pair[0])
        return replace(best, name=arm.name + TUNED)

    def _variant(self, arm: Arm, trial: int) -> Arm:
        """Returns an arm with the settings of a trial, its configs written out."""
        values = dict(_draw(self.spaces[arm.name], self.seed, arm.name, trial))
        configs = [read_config(path) for path in arm.configs]
        changed = [_changed(config, values) for config in configs]
        for name in values:
            if not any(_has(config, name.partition(".")[0]) for config in configs):
                raise ConfigError(f"--search must name plugins that {arm.name} has, got {name}. Name one of its own.")
        paths = []
        for path, config in zip(arm.configs, changed, strict=True):
            paths.append(self.folder / "configs" / arm.name / f"trial{trial}" / path.name)
            _write_once(paths[-1], yaml.safe_dump(config, sort_keys=False).encode())
        return Arm(f"{arm.name}@{trial}", tuple(paths))


def read_spaces(path: Path) -> dict[str, Space]:
    """Reads what may change.

    Raises:
        ConfigError: If it is no such file; the sentence names the setting.
    """
    spaces = {name: space for name, space in read_config(path).items() if name != "load"}
    discover()
    classes = {info.name: info.cls for info in registered()}
    for arm, space in spaces.items():
        if not isinstance(space, dict) or not space:
            raise ConfigError(f"{arm} in {path} must hold settings (Class.argument: values), got {space}.")
        for name, values in space.items():
            _check(str(name), values, classes, path)
    if not spaces:
        raise ConfigError(f"{path} must name an arm and what may change of it, got nothing. See docs/benchmark.md.")
    return spaces


def validation_dice(record: Mapping[str, Any]) -> float:
    """Returns the mean Dice on the source sites' validation cases of the selected round of a job."""
    scored = {point["round"]: point["val_dice"] for point in record["curve"]}
    return float(scored[record["selected_round"]])


def _check(name: str, values: Any, classes: Mapping[str, type], path: Path) -> None:
    plugin, _, argument = name.partition(".")
    if plugin not in classes:
        raise ConfigError(f"{name} in {path} must begin with a plugin. {nearest(plugin, classes)}")
    arguments = [known for known in inspect.signature(classes[plugin]).parameters if known != "self"]
    if argument not in arguments:
        raise ConfigError(f"{name} in {path} must be an argument of {plugin}. {nearest(argument, arguments)}")
    if isinstance(values, list) and values:
        return
    kind, bounds = next(iter(values.items())) if isinstance(values, dict) and len(values) == 1 else (None, None)
    numbers = bounds if isinstance(bounds, list) and all(isinstance(bound, int | float) for bound in bounds) else []
    low, high = numbers if len(numbers) == 2 else (1, 0)
    if kind not in _RANGES or low >= high or (kind == "log_uniform" and low <= 0):
        raise ConfigError(
            f"{name} in {path} must be a list of values, {{uniform: [low, high]}} or {{log_uniform: [low, high]}} with "
            f"low < high (and above 0 for log_uniform), got {values}."
        )


def _draw(space: Space, seed: int, arm: str, trial: int) -> Iterator[tuple[str, Any]]:
    """Draws the values of a trial; every setting has a stream of its own."""
    for name, values in space.items():
        share = float(torch.rand((), generator=generator(seed, "search", arm, trial, name), dtype=torch.float64))
        if isinstance(values, list):
            yield name, values[int(share * len(values))]
            continue
        kind, (low, high) = next(iter(values.items()))
        drawn = low + share * (high - low) if kind == "uniform" else low * (high / low) ** share
        yield name, float(f"{drawn:.3g}")


def _changed(config: Any, values: Mapping[str, Any]) -> Any:
    """Returns a config in which every plugin, written as a name or with a class path, has the new arguments."""
    if isinstance(config, list):
        return [_changed(part, values) for part in config]
    if isinstance(config, str):
        new = _arguments(config, values)
        return {"class_path": config, "init_args": new} if new else config
    if not isinstance(config, dict):
        return config
    path = config.get("class_path")
    if not isinstance(path, str):
        return {name: _changed(part, values) for name, part in config.items()}
    given = {name: _changed(part, values) for name, part in (config.get("init_args") or {}).items()}
    return {**config, "init_args": {**given, **_arguments(path, values)}}


def _arguments(class_path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {tuple(name.split(".", 1)): value for name, value in values.items()}
    return {name: value for (plugin, name), value in pairs.items() if plugin == class_path.rpartition(".")[2]}


def _write_once(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def _has(config: Any, plugin: str) -> bool:
    if isinstance(config, dict):
        return any(_has(part, plugin) for part in config.values())
    if isinstance(config, list):
        return any(_has(part, plugin) for part in config)
    return isinstance(config, str) and config.rpartition(".")[2] == plugin
