"""The colours of a report, each for light and for dark paper, and the markers that tell sites apart without colour.

Text keeps a contrast of 4.5 to 1 and more, marks of 3 to 1, on both papers; a test computes them.
"""

from __future__ import annotations

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f4f6f8",
    "ink": "#1c2128",
    "muted": "#545e69",
    "rule": "#d3d9df",
    "accent": "#0b5cad",
    "good": "#0a6b4d",
    "bad": "#a3341c",
    "open": "#6b5600",
    "series-1": "#0b62a8",
    "series-2": "#c2500a",
    "series-3": "#0a7d5a",
    "series-4": "#8a3f9e",
    "series-5": "#8a6d00",
    "series-6": "#5f6b76",
    "series-7": "#b0306a",
    "series-8": "#11808f",
}
"""On white paper, and in the figures' own files."""

DARK = {
    "paper": "#14181d",
    "panel": "#1d232a",
    "ink": "#e6e9ed",
    "muted": "#a3adb8",
    "rule": "#3a434d",
    "accent": "#86bbf5",
    "good": "#63d3a6",
    "bad": "#f49a83",
    "open": "#e2c44f",
    "series-1": "#6db3f2",
    "series-2": "#f0955a",
    "series-3": "#4ecb9f",
    "series-4": "#cf9be0",
    "series-5": "#e3c04b",
    "series-6": "#a9b4bf",
    "series-7": "#f08ab4",
    "series-8": "#5fd4e0",
}
"""On a dark screen; print never is."""

SERIES = tuple(name for name in LIGHT if name.startswith("series-"))
"""Names of the colours of sites, in turn."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""A shape beside every colour: colour alone never carries a meaning."""

OUTLINES = {"mask": "#56b4e9", "prediction": "#f0e442", "both": "#ffffff"}
"""Of the lines in overlays, which have a dark ground on either paper; they are drawn where torch is."""


def marker(index: int) -> tuple[str, str]:
    """Returns the shape and the light colour of the site at an index; no two of the first 64 are alike."""
    return MARKERS[index % len(MARKERS)], LIGHT[SERIES[(index + index // len(MARKERS)) % len(SERIES)]]


def style_sheet(colours: dict[str, str]) -> str:
    """Returns the colours as declarations of a style sheet.

    >>> style_sheet({"ink": "#000000"})
    '--ink: #000000;'
    """
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
