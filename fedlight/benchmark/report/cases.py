"""Pictures that show patients: overlays of best, median and worst cases, and styled images, if they were asked for.

``fedlight benchmark --pictures`` writes them, and only then. They are looked for beside the results:

    OUTPUT/overlays/<arm>/<held_out>/index.json   {"format": 1, "cases": [{"file": "a.png", "which": "worst",
                                                   "case": "021", "seed": 0, "checkpoint": "best",
                                                   "model": "global", "dice": 0.41}, ...]}
    OUTPUT/overlays/<arm>/<held_out>/*.png        image with the outlines of mask and prediction
    OUTPUT/styles/*.png                           sheets of styles, map of the sites' features
    OUTPUT/styles/index.json                      if there is one, captions: {"format": 1, "pictures": [{"file":
                                                   "styles.png", "caption": "..."}, ...]}

A report with any of them holds patients' images and must stay with their owner: the page says so at its top.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fedlight.benchmark.report.notation import fixed
from fedlight.benchmark.scores import ResultsError

WHICH = ("best", "median", "worst")
"""Kinds of cases, in the order of the page."""

SIDE = 960
"""Longest side of an overlay in the page, in pixels; those of one class that a benchmark draws are half as wide."""

SHEET = 1600
"""Longest side of a sheet of styles in the page, in pixels."""

_MODELS = {"mean": "mean of the sites' models", "ensemble": "ensemble of the sites' models"}


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image inside the page.

    Args:
        source: What stands behind ``src``: the image itself.
        width: In pixels.
        height: In pixels.
        caption: What is said below it, and to whoever cannot see it.
    """

    source: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True, slots=True)
class Overlays:
    """The cases of one arm at one held-out site."""

    arm: str
    site: str
    cases: tuple[Embedded, ...]


def overlays(folders: Sequence[Path]) -> list[Overlays]:
    """Reads all overlays beside the results, by site and then arm.

    Args:
        folders: The folders of the report, each an output of ``fedlight benchmark`` or its ``results``.

    Raises:
        ResultsError: If an index cannot be read or names an image that is not there.
    """
    indices = [path for folder in _outputs(folders) for path in sorted((folder / "overlays").glob("*/*/index.json"))]
    read = (Overlays(path.parent.parent.name, path.parent.name, tuple(_cases(path))) for path in indices)
    return sorted(read, key=lambda group: (group.site, group.arm))


def styles(folders: Sequence[Path]) -> list[Embedded]:
    """Reads the sheets of styles and maps of features beside the results.

    Raises:
        ResultsError: If their index or one of them cannot be read.
    """
    return [picture for folder in _outputs(folders) for picture in _sheets(folder / "styles")]


def _sheets(folder: Path) -> Iterator[Embedded]:
    try:
        index = folder / "index.json"
        listed = json.loads(index.read_text(encoding="utf-8"))["pictures"] if index.is_file() else []
        captions = {picture["file"]: str(picture["caption"]) for picture in listed}
        for path in sorted(folder.glob("*.png"), reverse=True):  # styles before features
            yield embedded(path, captions.get(path.name, path.stem.replace("_", " ")), SHEET)
    except (KeyError, ValueError, TypeError, OSError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ResultsError(f"{folder} must hold images, got {problem}. Remove the folder, or write it anew.") from error


def _outputs(folders: Sequence[Path]) -> list[Path]:
    """Returns the folders in which ``results`` lie, each once."""
    found = (folder.parent if folder.resolve().name == "results" else folder for folder in folders)
    return list({folder.resolve(): folder for folder in found}.values())


def _cases(path: Path) -> Iterator[Embedded]:
    try:
        cases = json.loads(path.read_text())["cases"]
        for case in sorted(cases, key=lambda case: WHICH.index(case["which"])):
            yield embedded(path.parent / Path(case["file"]).name, _caption(case), SIDE)
    except (KeyError, ValueError, TypeError, OSError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ResultsError(
            f"{path} must list images that are there, got {problem}. Remove the folder, or write it anew."
        ) from error


def _caption(case: dict[str, Any]) -> str:
    model = f", {_MODELS[case['model']]}" if case.get("model") in _MODELS else ""
    return f"{case['which']}: {case['case']}, Dice {fixed(case.get('dice'))}, seed {case.get('seed', 0)}{model}"


def embedded(path: Path, caption: str, side: int) -> Embedded:
    """Reads an image, makes it at most ``side`` pixels long, and writes it into itself; nothing but pixels is kept.

    Drawings are smaller as PNG, photographs as JPEG of high quality with its colours at full resolution.
    """
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    pixels.thumbnail((side, side))
    kinds: dict[str, dict[str, Any]] = {"png": {"optimize": True}, "jpeg": {"quality": 90, "subsampling": 0}}
    written = {kind: _bytes(pixels, kind, options) for kind, options in kinds.items()}
    kind = min(written, key=lambda kind: len(written[kind]))
    text = base64.b64encode(written[kind]).decode()
    return Embedded(f"data:image/{kind};base64,{text}", *pixels.size, caption)


def _bytes(pixels: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pixels.save(buffer, kind, **options)
    return buffer.getvalue()
