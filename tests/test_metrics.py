"""Claims about Dice, IoU, HD95, ASSD and their means."""

import math

import pytest
import torch
from torch import Tensor

from fedlight.metric_names import is_higher_better
from fedlight.metrics import mean_over_sites, score_calibration, score_case, summarise, worst_site

BINARY = ("background", "vessel")


def points(*places: tuple[int, int], size: tuple[int, int] = (16, 16)) -> Tensor:
    """A mask (H, W) of single pixels."""
    mask = torch.zeros(size, dtype=torch.int64)
    for y, x in places:
        mask[y, x] = 1
    return mask


def score(
    prediction: Tensor,
    mask: Tensor,
    valid: Tensor | None = None,
    spacing: tuple[float, ...] = (1.0, 1.0),
    classes: tuple[str, ...] = BINARY,
    distances: bool = True,
) -> dict[str, float]:
    everywhere = torch.ones_like(mask, dtype=torch.bool)
    return score_case(prediction, mask, everywhere if valid is None else valid, spacing, classes, distances)


def test_overlap_is_the_hand_computed_one() -> None:
    """Four pixels each, three in common: Dice 2 * 3 / 8, IoU 3 / 5."""
    prediction = points((1, 1), (1, 2), (2, 1), (2, 2))
    mask = points((1, 1), (1, 2), (2, 1), (3, 1))
    scores = score(prediction, mask, distances=False)
    assert scores["dice"] == scores["dice/vessel"] == 0.75
    assert scores["iou"] == scores["iou/vessel"] == 0.6
    assert scores["miss"] == 0
    assert "hd95" not in scores


def test_distances_are_in_mm_along_each_axis() -> None:
    """One pixel against one that is 3 rows (2 mm each) and 8 columns (1 mm) away: sqrt(36 + 64) = 10 mm."""
    scores = score(points((2, 2)), points((5, 10)), spacing=(2.0, 1.0))
    assert scores["hd95"] == pytest.approx(10)
    assert scores["assd"] == pytest.approx(10)


def test_hd95_is_the_larger_directed_percentile_and_assd_the_pooled_mean() -> None:
    """The mask is (0, 0), the prediction is that pixel and (0, 10): distances 0 and 10 one way, 0 the other.

    The 95th percentile between 0 and 10 is 9.5, the other way it is 0: the larger is 9.5 (pooled it would be 9). The
    pooled mean is 10 / 3 (the mean of the two directed means would be 2.5).
    """
    scores = score(points((0, 0), (0, 10)), points((0, 0)))
    assert scores["hd95"] == pytest.approx(9.5)
    assert scores["assd"] == pytest.approx(10 / 3)


def test_distances_are_symmetric_and_zero_only_between_equals() -> None:
    one, other = points((3, 3), (3, 4), (9, 9)), points((3, 3), (12, 2))
    assert score(one, one)["hd95"] == score(one, one)["assd"] == 0
    for name in ("hd95", "assd"):
        assert score(one, other)[name] == pytest.approx(score(other, one)[name])
        assert score(one, other)[name] > 0


def test_only_the_boundary_counts_for_distances() -> None:
    """A filled square and its outline have the same boundary, but not the same pixels."""
    filled = torch.zeros(16, 16, dtype=torch.int64)
    filled[4:11, 4:11] = 1
    outline = filled.clone()
    outline[5:10, 5:10] = 0
    scores = score(outline, filled)
    assert scores["hd95"] < 1.5
    assert scores["dice"] < 1


def test_both_empty_is_perfect() -> None:
    empty = torch.zeros(16, 16, dtype=torch.int64)
    scores = score(empty, empty)
    assert (scores["dice"], scores["iou"], scores["hd95"], scores["assd"], scores["miss"]) == (1, 1, 0, 0, 0)


@pytest.mark.parametrize("missed", [True, False])
def test_one_empty_is_the_diagonal_and_only_an_overlooked_object_is_a_miss(missed: bool) -> None:
    """30 by 40 pixels of (1, 1) mm have a diagonal of 50 mm."""
    empty, full = torch.zeros(30, 40, dtype=torch.int64), points((3, 3), size=(30, 40))
    scores = score(empty, full) if missed else score(full, empty)
    assert (scores["dice"], scores["iou"], scores["hd95"], scores["assd"]) == (0, 0, 50, 50)
    assert scores["miss"] == scores["miss/vessel"] == float(missed)


def test_only_valid_pixels_count() -> None:
    mask, prediction = points((2, 2)), points((2, 2), (12, 12))
    valid = torch.ones(16, 16, dtype=torch.bool)
    assert score(prediction, mask, valid)["dice"] < 1
    valid[8:] = False
    assert score(prediction, mask, valid) == score(mask, mask)


def test_foreground_mean_is_over_classes() -> None:
    """The disc is right (Dice 1), the cup is missed (Dice 0): mean 0.5; background plays no part."""
    mask = points((2, 2), (2, 3))
    mask[2, 3] = 2
    prediction = points((2, 2))
    scores = score(prediction, mask, classes=("background", "disc", "cup"))
    assert (scores["dice"], scores["dice/disc"], scores["dice/cup"]) == (0.5, 1, 0)
    assert (scores["miss"], scores["miss/cup"]) == (0.5, 1)
    assert scores["hd95"] == pytest.approx(math.hypot(16, 16) / 2)


# MONAI 1.6 warns about an argument that it passes itself
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_scores_are_those_of_monai() -> None:
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    generator = torch.Generator().manual_seed(0)
    prediction, mask = (torch.rand(2, 24, 24, generator=generator) > 0.6).long()
    scores = score(prediction, mask, spacing=(0.5, 2.0))
    pair = (prediction[None, None], mask[None, None])
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=(0.5, 2.0))
    assd = compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=(0.5, 2.0))
    assert scores["hd95"] == pytest.approx(hd95.item(), rel=1e-6)
    assert scores["assd"] == pytest.approx(assd.item(), rel=1e-6)


def test_summary_is_the_mean_over_cases_and_skips_what_is_no_number() -> None:
    rows = [{"case": "a", "dice": 0.25, "extra": 1.0}, {"case": "b", "dice": 0.75}]
    assert summarise(rows) == {"dice": 0.5, "extra": 1.0}
    assert summarise([]) == {}


def test_every_site_counts_the_same() -> None:
    assert mean_over_sites({"large": {"dice": 0.5}, "small": {"dice": 1.0}}) == {"dice": 0.75}


def test_the_worst_site_has_the_lowest_overlap_or_the_largest_distance() -> None:
    sites = {"A": {"dice": 0.9, "hd95": 7.0}, "B": {"dice": 0.6, "hd95": 3.0}, "C": {"dice": 0.6, "hd95": 7.0}}
    assert worst_site(sites) == ("B", 0.6)
    assert worst_site(sites, "hd95") == ("A", 7.0)


@pytest.mark.parametrize(
    ("metric", "higher"), [("dice/cup", True), ("val_iou", True), ("assd", False), ("miss/cup", False)]
)
def test_direction_of_a_metric(metric: str, higher: bool) -> None:
    assert is_higher_better(metric) is higher


def test_calibration_is_the_gap_between_confidence_and_frequency() -> None:
    """Four valid pixels: probability 0.8 three times, two of them foreground, and 0.1 once, background.

    Two bins are hit: |2/3 - 0.8| * 3/4 + |0 - 0.1| * 1/4 = 0.1 + 0.025. Brier: (0.04 + 0.04 + 0.64 + 0.01) / 4.
    The fifth pixel, confidently wrong, is not valid.
    """
    foreground = torch.tensor([[0.8, 0.8, 0.8, 0.1, 1.0]])
    mask, valid = torch.tensor([[1, 1, 0, 0, 0]]), torch.tensor([[True, True, True, True, False]])
    scores = score_calibration(torch.stack([1 - foreground, foreground]), mask, valid, ("background", "disc"))
    assert scores["ece"] == scores["ece/disc"] == pytest.approx(0.125)
    assert scores["brier"] == scores["brier/disc"] == pytest.approx(0.1825)


def test_calibration_without_a_valid_pixel_is_perfect() -> None:
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    scores = score_calibration(torch.ones(3, 1, 2) / 3, torch.zeros(1, 2).long(), nothing, ("background", "a", "b"))
    assert set(scores.values()) == {0.0}
    assert set(scores) == {"ece", "brier", "ece/a", "ece/b", "brier/a", "brier/b"}


def test_volumes_are_scored_in_three_dimensions_and_in_mm() -> None:
    """One voxel against one that is 2 slices of 3 mm and 8 columns of 1 mm away: sqrt(36 + 64) = 10 mm.

    A voxel that is nowhere predicted costs the diagonal of 4 slices of 3 mm, 6 rows of 2 mm and 12 columns of 1 mm.
    """
    prediction, mask = (torch.zeros(4, 6, 12, dtype=torch.int64) for _ in range(2))
    prediction[0, 3, 1], mask[2, 3, 9] = 1, 1
    scores = score(prediction, mask, spacing=(3.0, 2.0, 1.0))
    assert scores["hd95"] == pytest.approx(10)
    assert scores["assd"] == pytest.approx(10)
    missed = score(torch.zeros_like(mask), mask, spacing=(3.0, 2.0, 1.0))
    assert missed["hd95"] == pytest.approx((12**2 + 12**2 + 12**2) ** 0.5)
    assert missed["miss"] == 1


def test_the_surface_of_a_volume_is_not_that_of_its_slices() -> None:
    """A 5 x 5 x 5 cube and one without its middle voxel differ by an inner surface: 1 of 125 voxels.

    The hole makes its 6 face neighbours boundary, 1 voxel from the outer surface. Pooled with the 98 voxels of the
    outer surface, which are at distance 0 in both directions, the mean is 6 / (98 + 98 + 6).
    """
    cube = torch.zeros(7, 7, 7, dtype=torch.int64)
    cube[1:6, 1:6, 1:6] = 1
    hollow = cube.clone()
    hollow[3, 3, 3] = 0
    scores = score(hollow, cube, spacing=(1.0, 1.0, 1.0))
    assert scores["dice"] == pytest.approx(2 * 124 / (124 + 125))
    assert scores["assd"] == pytest.approx(6 / 202)
