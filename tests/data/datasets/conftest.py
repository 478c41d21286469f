"""What the tests of public data sets share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _surroundings() -> Iterator[None]:
    """No waiting for the disk: a killed process loses nothing that it wrote. Configs are parsed as the command does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        yield
