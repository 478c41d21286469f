"""The numbers of a report: their names, which way is better, and what each of them means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

UNDEFINED = "n/a"


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of a table.

    Attributes:
        heading: Its name; distances get their unit behind it.
        better: Which way is better; None where neither is.
        style: How it is written, a format of Python.
        meaning: A sentence.
    """

    heading: str
    better: Literal["higher", "lower"] | None
    style: str
    meaning: str

    def text(self, value: float) -> str:
        """Writes a value.

        >>> MEASURES["dice"].text(0.71239), MEASURES["miss"].text(0.025), MEASURES["hd95"].text(float("nan"))
        ('0.712', '2.5 %', 'n/a')
        """
        if not math.isfinite(value):
            return UNDEFINED
        return f"{value:{self.style}}".replace("%", " %")

    def is_best(self, value: float, values: list[float]) -> bool:
        """Says whether a value, as it is written, is the best of several, which are not all the same.

        >>> MEASURES["hd95"].is_best(4.0, [float("nan"), 5.0, 4.0])
        True
        """
        defined = [other for other in values if math.isfinite(other)]
        if self.better is None or not defined or not math.isfinite(value):
            return False
        best = max(defined) if self.better == "higher" else min(defined)
        written = {self.text(other) for other in defined}
        return self.text(value) == self.text(best) and (len(written) > 1 or len(defined) == 1)


MEASURES = {
    "dice": Measure(
        "Dice", "higher", ".3f", "Dice: overlap of prediction and mask, twice the common area over the sum."
    ),
    "dice_sd": Measure("SD", None, ".3f", "SD: standard deviation over seeds of the mean over sites."),
    "worst_site_dice": Measure("Worst site", "higher", ".3f", "Worst site: the site with the lowest mean Dice."),
    "worst_decile": Measure(
        "Worst decile",
        "higher",
        ".3f",
        "Worst decile: mean Dice of the lowest tenth of a site's cases, then the mean over sites.",
    ),
    "iou": Measure("IoU", "higher", ".3f", "IoU: common area over joint area."),
    "hd95": Measure(
        "HD95",
        "lower",
        ".1f",
        "HD95: the larger of the two directed 95th percentiles of surface distances, computed with MONAI "
        "(other tools define it otherwise), over the cases in which the structure was found; the image's diagonal "
        "where something was found in an empty mask.",
    ),
    "assd": Measure(
        "ASSD",
        "lower",
        ".2f",
        "ASSD: mean surface distance over both directions, computed with MONAI, over the same cases as HD95.",
    ),
    "miss": Measure(
        "Missed",
        "lower",
        ".1%",
        "Missed: share of cases in which nothing of a structure was found that is in the mask; these have no distance, "
        "so read HD95 and ASSD beside it.",
    ),
    "ece": Measure(
        "ECE",
        "lower",
        ".3f",
        "ECE: expected calibration error of the foreground probability over the valid pixels of a case, 15 bins.",
    ),
    "brier": Measure("Brier", "lower", ".3f", "Brier: mean squared error of that probability."),
    "val_dice": Measure(
        "Source val.", None, ".3f", "Source val.: mean validation Dice over the training sites, all that a user sees."
    ),
    "rank": Measure(
        "Rank", "lower", ".1f", "Rank: mean over held-out sites and seeds of the place among the arms there, 1 is best."
    ),
}
"""By the names of the columns of ``statistics.headline``."""


def heading(name: str, unit: str = "", arrows: tuple[str, str] = ("↑", "↓")) -> str:
    """Names a column, with the arrow of the better direction.

    >>> heading("dice"), heading("hd95", "px"), heading("dice_sd"), heading("dice/cup")
    ('Dice ↑', 'HD95 px ↓', 'SD', 'Dice cup ↑')
    """
    base, _, part = name.partition("/")
    measure = MEASURES[base]
    arrow = {"higher": arrows[0], "lower": arrows[1], None: ""}[measure.better]
    return " ".join(filter(None, (measure.heading, part, unit if base in ("hd95", "assd") else "", arrow)))
