"""Reconstructions beside the truth, as one PNG: they show patients and belong where the data are."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE = 128
"""Side of an image, in pixels."""

_LINES = 2
_LINE = 13


def strip(images: Mapping[str, Tensor], span: tuple[float, float]) -> bytes:
    """Draws images in a row, each over its name.

    Args:
        images: (C, H, W) by name.
        span: Lowest and highest intensity, which become black and white.

    Returns:
        The bytes of a PNG.
    """
    sheet = Image.new("RGB", (len(images) * (TILE + 4), TILE + _LINES * _LINE + 4), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for index, (name, image) in enumerate(images.items()):
        left = index * (TILE + 4)
        sheet.paste(_tile(image, span), (left, 0))
        for line, words in enumerate(_wrapped(name)):
            draw.text((left + 2, TILE + 2 + line * _LINE), words, fill="black", font=font)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _tile(image: Tensor, span: tuple[float, float]) -> Image.Image:
    low, high = span
    colours = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    pixels = ((colours.float() - low) / max(high - low, 1e-6)).clamp(0, 1).mul(255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    return picture.resize((TILE, TILE), Image.Resampling.NEAREST)


def _wrapped(name: str) -> list[str]:
    """Breaks a name at a comma into two lines.

    >>> _wrapped("8 images, 6 steps")
    ['8 images,', '6 steps']
    """
    first, comma, second = name.partition(", ")
    return [f"{first}{',' * bool(comma)}", *([second] if comma else [])]
