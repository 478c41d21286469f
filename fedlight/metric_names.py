"""What the names of metrics mean."""

from __future__ import annotations

HIGHER_IS_BETTER = ("dice", "iou")


def is_higher_better(metric: str) -> bool:
    """Says whether a larger value of "dice", "iou", "hd95", "assd", "miss" or "<one of them>/<class>" is better."""
    return metric.split("/")[0].removeprefix("val_").removeprefix("test_") in HIGHER_IS_BETTER
