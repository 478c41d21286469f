"""Small sites on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

MakeSite = Callable[..., Path]


def picture(seed: int, height: int = 16, width: int = 16) -> npt.NDArray[np.uint8]:
    """Noise, so that no two pictures are equal."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def square(height: int = 16, width: int = 16) -> npt.NDArray[np.uint8]:
    """A mask whose foreground, 255, is the upper left quarter."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[: height // 2, : width // 2] = 255
    return mask


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    """Writes a site of noise images with square masks below ``tmp_path`` and returns the root."""

    def make(site: str, cases: int = 6, height: int = 16, width: int = 16, fov: bool = False) -> Path:
        for folder in ("images", "masks", *(["fov"] if fov else [])):
            (tmp_path / site / folder).mkdir(parents=True, exist_ok=True)
        for index in range(cases):
            seed = sum(site.encode()) * 1000 + index
            Image.fromarray(picture(seed, height, width)).save(tmp_path / site / "images" / f"c{index}.png")
            Image.fromarray(square(height, width)).save(tmp_path / site / "masks" / f"c{index}.png")
            if fov:
                inside = np.zeros((height, width), dtype=np.uint8)
                inside[:, : width // 2] = 255
                Image.fromarray(inside).save(tmp_path / site / "fov" / f"c{index}.png")
        return tmp_path

    return make


@pytest.fixture
def two_sites(make_site: MakeSite) -> Path:
    """A root with the sites "a" and "b", six cases each."""
    make_site("a")
    return make_site("b")
