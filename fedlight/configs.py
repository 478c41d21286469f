"""Config files, read for what must be known before they are parsed, and settings by their dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fedlight.errors import ConfigError, DamagedFileError


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML config as it is written.

    Raises:
        ConfigError: If it cannot be read, is not YAML or holds no settings.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"config must be a file that can be read, got {path} ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error)
        raise ConfigError(f"{path} must be valid YAML, got an error at {place}. Mend that line.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must hold settings (name: value), got {type(config).__name__}.")
    # a run folder keeps the plugin files that it was started with
    beside = [path.parent / str(file) for file in config.get("load") or []]
    named = config.get("load") or []
    return {**config, "load": [str(b if b.is_file() else n) for b, n in zip(beside, named, strict=True)]}


def read_settings(folder: Path) -> dict[str, Any]:
    """Reads the resolved config of a run; runs from Python have an empty one.

    Raises:
        DamagedFileError: If it is missing or not what was written.
    """
    path = folder / "config.yaml"
    try:
        # libyaml's loader is ten times as fast; both are safe
        config = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError as error:
        raise DamagedFileError(f"{path} is missing. Bring it back to score the run or go on with it.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is damaged: it is not YAML. Bring it back.") from error
    if not isinstance(config or {}, dict):
        raise DamagedFileError(f"{path} is damaged: it must hold settings. Bring it back.")
    return config or {}


def empty_groups(tree: Mapping[str, Any], name: str = "") -> list[str]:
    """Returns the dotted names of groups without a setting; arguments of classes, whose names are theirs, not.

    >>> empty_groups({"data": {"init_args": {"a": {}}}, "federation": {"secure": {}, "rounds": 3}})
    ['federation.secure']
    """
    groups = {f"{name}{key}": value for key, value in tree.items() if isinstance(value, Mapping) and key != "init_args"}
    below = [empty for key, value in groups.items() for empty in empty_groups(value, f"{key}.")]
    return [key for key, value in groups.items() if not value] + below


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Returns the leaves of nested settings by their dotted names.

    >>> flat({"data": {"sizes": [8, 16]}})
    {'data.sizes.0': 8, 'data.sizes.1': 16}
    """
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list):
        items = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return {name: tree}
    return {
        key: value for part, branch in items for key, value in flat(branch, f"{name}.{part}" if name else part).items()
    }
