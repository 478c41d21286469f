"""Reads image files as arrays: images by their channels, masks by their values."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fedlight.data.source import CaseError, Pixels

_GREY = ("1", "L", "LA")
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: Path, channels: int) -> Pixels:
    """Reads an image, turned as its EXIF orientation says; transparency is dropped, palettes become colours.

    Args:
        path: The file.
        channels: 1 or 3. An image in colour whose three channels are equal counts as grey.

    Returns:
        (H, W, channels), uint8, or uint16 if the file has 16 bits per pixel.

    Raises:
        CaseError: If the file cannot be read, or has another number of channels.
    """
    pixels = pixels_of(open_image(path), path)  # (H, W, 1 or 3)
    if pixels.shape[2] == channels:
        return pixels
    if channels == 1 and _is_grey(pixels):
        return np.ascontiguousarray(pixels[..., :1])
    raise CaseError(("channels", f"{path.stem} ({pixels.shape[2]} instead of {channels})"))


def read_values(path: Path) -> Pixels:
    """Reads a mask as the numbers that it stores: grey levels, or the indices of a palette of colours.

    Returns:
        (H, W), uint8 or uint16.

    Raises:
        CaseError: If the file cannot be read, or differs between its colour channels.
    """
    image = open_image(path)
    if image.mode == "P" and not _has_grey_palette(image):
        return np.array(image)
    pixels = pixels_of(image, path)  # (H, W, 1 or 3)
    if not _is_grey(pixels):
        raise CaseError(("mask colour", path.stem))
    return pixels[..., 0]


def open_image(path: Path) -> Image.Image:
    """Opens the first page or frame of an image, which may lie in a ``.gz`` file, turned as its EXIF orientation says.

    Raises:
        CaseError: If the file cannot be read.
    """
    # Pillow raises SyntaxError, struct.error and more on broken files: every one of them means "unreadable"
    try:
        with _stream(path) as file, Image.open(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:
        raise CaseError(("unreadable", f"{path.parent.name}/{path.name} ({_reason(error)})")) from error


def _stream(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _reason(error: Exception) -> str:
    return "unknown format" if "cannot identify" in str(error) else str(error) or type(error).__name__


def pixels_of(image: Image.Image, path: Path) -> Pixels:
    """Returns an open image, (H, W, 1 or 3), uint8 or, of a grey one, uint16; ``path`` is for messages.

    Raises:
        CaseError: If it has more than 16 bits, negative or fractional values.
    """
    if image.mode in _SIXTEEN:
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        return _wide(np.asarray(image), path)
    if image.mode in _GREY:
        return np.array(image.convert("L"))[..., None]
    return np.array(image.convert("RGB"))


def _wide(pixels: npt.NDArray[np.int32] | npt.NDArray[np.float32], path: Path) -> Pixels:
    narrow = np.clip(np.nan_to_num(pixels), 0, np.iinfo(np.uint16).max).astype(np.uint16)
    if not np.array_equal(narrow, pixels):
        detail = "more than 16 bits, negative or fractional values"
        raise CaseError(("unreadable", f"{path.parent.name}/{path.name} ({detail})"))
    return narrow[..., None]


def _is_grey(pixels: Pixels) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _has_grey_palette(image: Image.Image) -> bool:
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = colours[np.unique(np.asarray(image))]
    return _is_grey(used[None])
