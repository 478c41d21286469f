"""Packages of others that a tracker records with."""

from __future__ import annotations

from importlib.util import find_spec


def need(module: str, tracker: str, install: str) -> None:
    """Looks whether a package is installed, without importing it.

    Args:
        module: The package.
        tracker: Class that records with it.
        install: What pip is asked for.

    Raises:
        ModuleNotFoundError: If it is not.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(
            f"{tracker} needs {module}, which is not installed. Get it with: pip install {install}."
        )
