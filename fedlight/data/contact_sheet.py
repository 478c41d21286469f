"""A picture of the data: a few cases of every site with the outlines of their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fedlight.data.case_sites import CaseSites
from fedlight.data.cases import Case
from fedlight.data.federated import Stage
from fedlight.data.preparation import full_range, letterbox, letterbox_labels
from fedlight.data.splits import STAGES

TILE = 160
"""Side of a case on the sheet, in pixels."""

CAPTION = 22
"""Height of a line of text, in pixels."""

COLOURS = ((0, 255, 90), (255, 60, 200), (0, 200, 255), (255, 210, 0), (255, 110, 0), (170, 130, 255))
"""Outlines of the classes after the background, in turn."""


def contact_sheet(data: CaseSites, path: Path, per_site: int = 6) -> None:
    """Writes a PNG with a row a site: cases spread over the site, masks outlined, pixels that do not count dimmed.

    Args:
        data: The data; cases that cannot be used are left out.
        path: File to write; the folder must exist.
        per_site: Cases of a site at most.
    """
    rows = [_row(site, _spread(splits, per_site), per_site) for site, splits in data.survey().cases.items()]
    sheet = np.concatenate([_legend(data.format.classes, per_site * TILE), *rows])
    Image.fromarray(sheet).save(path, "PNG")


def _spread(splits: Mapping[Stage, Sequence[Case]], count: int) -> list[Case]:
    cases = sorted((case for stage in STAGES for case in splits[stage]), key=lambda case: case.name)
    chosen = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[index] for index in chosen]


def _legend(classes: Sequence[str], width: int) -> npt.NDArray[np.uint8]:
    names = [(name, COLOURS[index % len(COLOURS)]) for index, name in enumerate(classes[1:])]
    return _text(names, width)


def _row(site: str, cases: Sequence[Case], columns: int) -> npt.NDArray[np.uint8]:
    sheet = np.zeros((TILE, columns * TILE, 3), dtype=np.uint8)
    for column, case in enumerate(cases):
        sheet[:, column * TILE : (column + 1) * TILE] = _tile(case)
    names = ", ".join(case.name for case in cases) or "no usable case"
    return np.concatenate([_text([(f"{site}: {names}", (255, 255, 255))], sheet.shape[1]), sheet])


def _text(parts: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> npt.NDArray[np.uint8]:
    line = Image.new("RGB", (width, CAPTION))
    draw, font, left = ImageDraw.Draw(line), ImageFont.load_default(14), 4.0
    for text, colour in parts:
        draw.text((left, 2), text, fill=colour, font=font)
        left += draw.textlength(f"{text}    ", font=font)
    return np.array(line)


def _tile(case: Case) -> npt.NDArray[np.uint8]:
    decoded = case.source.open().read(case.facts.typical)
    image = letterbox(decoded.image, (TILE, TILE)).astype(np.float32) * (255 / full_range(decoded.image))
    tile = np.broadcast_to(image, (TILE, TILE, 3)).astype(np.uint8)
    tile[~letterbox_labels(decoded.valid, (TILE, TILE))] //= 2
    mask = letterbox_labels(decoded.mask, (TILE, TILE))
    for label in np.unique(mask[_outline(mask)]):
        tile[_outline(mask) & (mask == label)] = COLOURS[(int(label) - 1) % len(COLOURS)]
    return tile


def _outline(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Marks foreground pixels with a neighbour, of four, of another class; (H, W)."""
    padded = np.pad(mask, 1)
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.any([neighbour != mask for neighbour in neighbours], axis=0)
    edge: npt.NDArray[np.bool_] = differs & (mask > 0)
    return edge
