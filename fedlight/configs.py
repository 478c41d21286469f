"""Config files, read for what must be known before they are parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedlight.preparation import ConfigError


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
