"""How good a segmentation is: Dice, IoU, HD95, ASSD and calibration of a case, then means over cases and sites.

Dice and IoU are counted directly. HD95 and ASSD stand on MONAI's surface distances (``get_surface_distance``,
pixel centres of the boundary, a boundary pixel being one with a face neighbour outside): HD95 is the larger of the
two directed 95th percentiles, as in MONAI's ``HausdorffDistanceMetric(percentile=95)``; ASSD is the mean over both
directions pooled, as in ``SurfaceDistanceMetric(symmetric=True)``. Both are in mm where the spacing is known, else in
pixels. Volumes are scored in three dimensions, slices stacked. Other tools define them otherwise, so compare numbers
of one tool only.

Empty masks: if prediction and mask are both empty, Dice and IoU are 1 and distances 0. If one is, Dice and IoU are 0
and distances are the diagonal of the image or volume, so that a missed case cannot improve a mean by dropping out of
it. "miss" is 1 where a class is in the mask and nothing of it was predicted, else 0.

Calibration is that of a class's probability over the valid pixels of a case: "ece" is the expected calibration error
(torchmetrics, 15 bins of equal width, absolute differences), "brier" the mean squared error. Both are 0 at best, and
both are small where background is plentiful, so compare them between methods on the same cases only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedlight.metric_names import is_higher_better


def score_case(
    prediction: Tensor,
    mask: Tensor,
    valid: Tensor,
    spacing: tuple[float, ...],
    classes: Sequence[str],
    distances: bool,
) -> dict[str, float]:
    """Scores the segmentation of one case over its valid pixels, or of one volume over its valid voxels.

    Args:
        prediction: (H, W) or (S, H, W), int64, class index.
        mask: Like ``prediction``.
        valid: Like ``prediction``, bool; elsewhere both count as background.
        spacing: (y, x) or (z, y, x), in mm.
        classes: Names of the classes, background first.
        distances: Whether to compute "hd95" and "assd" too; they take longer.

    Returns:
        "dice", "iou", "miss", with ``distances`` also "hd95" and "assd": means over the foreground classes; and each of
        them for every foreground class as "dice/<class>".
    """
    rows: list[dict[str, float]] = []
    for index in range(1, len(classes)):
        predicted, true = (prediction == index) & valid, (mask == index) & valid
        rows.append(_overlap(predicted, true) | (_distances(predicted, true, spacing) if distances else {}))
    means = {name: _mean(row[name] for row in rows) for name in rows[0]}
    single = {f"{name}/{classes[i + 1]}": value for i, row in enumerate(rows) for name, value in row.items()}
    return means | single


def score_calibration(probabilities: Tensor, mask: Tensor, valid: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Scores how far the probabilities of one case can be believed, over its valid pixels.

    Args:
        probabilities: (classes, ..., H, W), float32, in [0, 1].
        mask: (..., H, W), int64, class index.
        valid: (..., H, W), bool; a case without any valid pixel scores 0.
        classes: Names of the classes, background first.

    Returns:
        "ece" and "brier", means over the foreground classes, and each of them for every class as "ece/<class>".
    """
    rows = [_calibration(probabilities[i].detach()[valid], mask[valid] == i) for i in range(1, len(classes))]
    means = {name: _mean(row[name] for row in rows) for name in ("ece", "brier")}
    return means | {f"{name}/{classes[i + 1]}": value for i, row in enumerate(rows) for name, value in row.items()}


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean over cases of every number by name; a name that some rows lack is averaged over the others.

    >>> summarise([{"case": "a", "dice": 0.5}, {"case": "b", "dice": 1.0}])
    {'dice': 0.75}
    """
    names = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, float))
    return {name: _mean(row[name] for row in rows if name in row) for name in names}


def mean_over_sites(sites: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns the plain mean over sites of every metric by name: every institution counts the same.

    >>> mean_over_sites({"A": {"dice": 0.5}, "B": {"dice": 1.0}})
    {'dice': 0.75}
    """
    return summarise(list(sites.values()))


def worst_site(sites: Mapping[str, Mapping[str, float]], metric: str = "dice") -> tuple[str, float]:
    """Returns the site that a metric is worst at, with its value; the first of several in the mapping's order.

    >>> worst_site({"A": {"hd95": 2.0}, "B": {"hd95": 9.0}}, "hd95")
    ('B', 9.0)
    """
    worst = min if is_higher_better(metric) else max
    values = {site: metrics[metric] for site, metrics in sites.items() if metric in metrics}
    return worst(values.items(), key=lambda pair: pair[1])


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def _overlap(predicted: Tensor, true: Tensor) -> dict[str, float]:
    both, either = int(torch.count_nonzero(predicted & true)), int(torch.count_nonzero(predicted | true))
    present, found = bool(true.any()), bool(predicted.any())
    return {
        "dice": 2 * both / (both + either) if either else 1.0,  # |A| + |B| = |A and B| + |A or B|
        "iou": both / either if either else 1.0,
        "miss": float(present and not found),
    }


def _calibration(probability: Tensor, true: Tensor) -> dict[str, float]:
    if not true.numel():
        return {"ece": 0.0, "brier": 0.0}
    from torchmetrics.functional.classification import binary_calibration_error

    error = binary_calibration_error(probability, true.long(), n_bins=15, norm="l1", validate_args=False)
    return {"ece": float(error), "brier": float((probability - true.float()).square().mean())}


def _distances(predicted: Tensor, true: Tensor, spacing: tuple[float, ...]) -> dict[str, float]:
    present, found = bool(true.any()), bool(predicted.any())
    if not (present and found):
        diagonal = math.hypot(*(length * step for length, step in zip(true.shape, spacing, strict=True)))
        distance = diagonal if present or found else 0.0
        return {"hd95": distance, "assd": distance}
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    edges, true_edges = get_mask_edges(predicted.cpu(), true.cpu())
    there = get_surface_distance(edges, true_edges, spacing=spacing)
    back = get_surface_distance(true_edges, edges, spacing=spacing)
    return {
        "hd95": max(_percentile_95(there), _percentile_95(back)),
        "assd": float(torch.cat([there, back]).double().mean()),
    }


def _percentile_95(distances: Tensor) -> float:
    return float(torch.quantile(distances.double(), 0.95))
