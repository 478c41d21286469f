"""Stacks of slices in TIFF files of several grey pages, as microscopes and ImageJ write them.

A file is a stack if it has further pages of the size of the first; thumbnails and the levels of pyramids are no slices.
ImageJ says in the description of the first page how far apart slices are, in the unit of the pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedlight.data.source import CaseError
from fedlight.data.stack import PLAIN_CUTS, Array, Axis, Stack, three, unsliced
from fedlight.file_names import stem

_ENDINGS = (".tif", ".tiff")
_DESCRIPTION, _KIND, _PER_UNIT_X, _PER_UNIT_Y = 270, 254, 282, 283  # tags
_REDUCED = 1  # a bit of the kind of a page: a smaller copy of another one
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "um": 1e-3, "micron": 1e-3, "microns": 1e-3, "µm": 1e-3, "\\u00b5m": 1e-3}
_MODES = {"1": np.bool_, "L": np.uint8, "P": np.uint8, "I": np.int32, "F": np.float32}


def is_stack(path: Path) -> bool:
    """Says whether a file is a TIFF with several pages of one size; a file that cannot be opened is none."""
    if not path.name.lower().endswith(_ENDINGS):
        return False
    try:
        _quiet()
        with Image.open(path) as image:
            pages = _slices(image)
            return next(pages, None) is not None and next(pages, None) is not None
    except Exception:  # Pillow raises what it likes on broken files; whoever reads it says so
        return False


def open_tiff(path: Path, axis: Axis) -> Stack:
    """Opens a stack, (z, y, x) with a page a slice.

    Raises:
        CaseError: If its pages are in colour, or are channels or times and no slices.
    """
    _quiet()
    with Image.open(path) as image:
        described = _description(image)
        sizes = _sizes(image, described)
        three(stem(path), (getattr(image, "n_frames", 1), image.height, image.width))
        array = np.stack([_page(image, path) for _ in _slices(image)])
    if any(int(described.get(name, "1")) > 1 for name in ("channels", "frames")):
        what = " and ".join(f"{described[name]} {name}" for name in ("channels", "frames") if name in described)
        raise CaseError(("not a volume", f"{stem(path)} ({what})"))
    order = PLAIN_CUTS[axis]

    def write(array: Array, target: Path, classes: Sequence[str]) -> Path:
        whole = unsliced(array, order)
        if whole.ndim > 3:
            np.save(target.with_name(f"{target.name}.npy"), whole)
            return target.with_name(f"{target.name}.npy")
        target = target.with_name(f"{target.name}.tif")
        first, *others = [Image.fromarray(page) for page in np.ascontiguousarray(whole)]
        said = {} if sizes is None else _said(sizes, len(whole))
        first.save(target, save_all=True, append_images=others, compression="tiff_deflate", tiffinfo=said)
        return target

    known = sizes is not None
    z, y, x = np.array(sizes or (1.0, 1.0, 1.0))[list(order)]
    remarks = () if known else (("spacing unknown", stem(path)),)
    stored = array.transpose(order)
    return Stack(stored, 1.0, 0.0, (float(z), float(y), float(x)), known, None, write, remarks=remarks)


def _quiet() -> None:
    """Keeps what Pillow warns of in broken files from the terminal: whoever reads a file says what is wrong with it."""
    warnings.filterwarnings("ignore", module="PIL.TiffImagePlugin")


def _slices(image: Image.Image) -> Iterator[int]:
    """Seeks the pages that are slices one after the other."""
    size, number = image.size, 0
    while True:
        tags: Any = getattr(image, "tag_v2", {})
        if image.size == size and not int(tags.get(_KIND, 0)) & _REDUCED:
            yield number
        number += 1
        try:
            image.seek(number)
        except EOFError:
            return


def _page(image: Image.Image, path: Path) -> Array:
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise CaseError(("volume values", f"{path.parent.name}/{path.name}"))
    return np.asarray(image).astype(_MODES.get(image.mode, np.uint16))


def _description(image: Image.Image) -> dict[str, str]:
    """Returns what ImageJ says of the stack; nothing if another program wrote it."""
    tags: Any = getattr(image, "tag_v2", {})
    text = str(tags.get(_DESCRIPTION, ""))
    if not text.startswith("ImageJ="):
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _said(sizes: tuple[float, float, float], slices: int) -> dict[int, str | float]:
    """Returns the tags by which ImageJ, and ``open_tiff``, know the spacing (z, y, x), in mm."""
    z, y, x = sizes
    text = f"ImageJ=1.11a\nimages={slices}\nslices={slices}\nunit=mm\nspacing={z:.9g}\n"
    return {_DESCRIPTION: text, _PER_UNIT_X: 1 / x, _PER_UNIT_Y: 1 / y}


def _sizes(image: Image.Image, described: dict[str, str]) -> tuple[float, float, float] | None:
    """Returns (z, y, x) in mm; None where the file does not say all of it."""
    unit = _MILLIMETRES.get(described.get("unit", "").lower())
    tags: Any = getattr(image, "tag_v2", {})
    try:
        z, y, x = float(described["spacing"]), 1 / float(tags[_PER_UNIT_Y]), 1 / float(tags[_PER_UNIT_X])
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    if unit is None or not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        return None
    return z * unit, y * unit, x * unit
