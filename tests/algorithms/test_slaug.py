"""SLAug: what becomes of regions, and the fusion by saliency."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, SLAug
from fedlight_algorithms.slaug import location_scale, region_moments, region_range, saliency_map
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.bezier import ENTRIES
from fedlight.state import digest
from tests.algorithms.test_image_styles import styled, with_images
from tests.contracts import checks
from tests.contracts.harness import Clinic, images_of, second_round

IMAGE = torch.tensor([[[[0.0, 0.5, 0.5, 1.0]]]])
REGIONS = torch.tensor([[[0, 0, 1, 1]]])
ALL = torch.ones(1, 1, 1, 4, dtype=torch.bool)
RISE, FALL = torch.linspace(0, 1, ENTRIES + 1), torch.linspace(1, 0, ENTRIES + 1)


def moved(
    scale: tuple[float, float] = (1, 1),
    shift: tuple[float, float] = (0, 0),
    tables: tuple[Tensor, Tensor] = (RISE, RISE),
) -> list[float]:
    numbers = (torch.tensor([pair], dtype=torch.float32) for pair in (scale, shift))
    out = location_scale(IMAGE, REGIONS, ALL, torch.stack(tables)[None], *numbers)
    return [round(value, 5) for value in out.flatten().tolist()]


def test_straight_curves_without_scale_and_shift_change_nothing() -> None:
    assert moved() == [0, 0.5, 0.5, 1]


def test_every_region_has_a_curve_over_its_own_range() -> None:
    """The second region lies in [0.5, 1] and is turned upside down within it; the first stays."""
    assert moved(tables=(RISE, FALL)) == [0, 0.5, 1, 0.5]


def test_scales_are_from_the_least_value_of_the_image_and_clipped_to_its_range() -> None:
    """0.5 by 1.1 is 0.55 and by 0.9 0.45; 1.1 is clipped to 1."""
    assert moved(scale=(1.1, 0.9)) == [0, 0.55, 0.45, 0.9]
    assert moved(scale=(1, 1.1)) == [0, 0.5, 0.55, 1]


def test_shifts_do_not_clip_a_region_away() -> None:
    """The first region has mean 0.25 and deviation 0.25: up by 1 - 0.5 = 0.5 at most, and not down.

    The second has mean 0.75 and deviation 0.25: not up, and down by 0.5 at most. A shift of 0.25 is as it is.
    """
    assert moved(shift=(9, 9)) == [0.5, 1, 0.5, 1]
    assert moved(shift=(-9, -9)) == [0, 0.5, 0, 0.5]
    assert moved(shift=(0.25, -0.25)) == [0.25, 0.75, 0.25, 0.75]


def test_ranges_and_moments_of_regions_count_valid_pixels_of_all_channels() -> None:
    """Values 1, 2 | 4, 9 and 3, 2 | 0, 9; the last pixel does not count. Region 2 has no pixel."""
    images = torch.tensor([[[[1.0, 2.0, 4.0, 9.0]], [[3.0, 2.0, 0.0, 9.0]]]])
    inside = torch.tensor([[[[True, True, True, False]]]])
    low, width = region_range(images, REGIONS, inside, 3)
    mean, std = region_moments(images, REGIONS, inside, 3)
    assert low.tolist() == [[1, 0, 0]]
    assert width.tolist() == [[2, 4, 0]]
    assert mean.tolist() == [[2, 2, 0]]
    torch.testing.assert_close(std, torch.tensor([[0.5**0.5, 2.0, 0.0]]))


def two_classes() -> Batch:
    """Images whose classes have the same intensities, half black and half white."""
    stripes = (torch.arange(16) % 2).float().expand(6, 3, 16, 16)
    mask = (torch.arange(16) >= 8).long()[:, None].expand(6, 16, 16)
    return {**with_images(stripes), "mask": mask}


def test_classes_are_told_apart_only_in_local_styles() -> None:
    """Black pixels of both classes get one value in a global style and two in most local ones."""
    batch = two_classes()
    black = torch.arange(16) % 2 == 0
    for local, expected in ((0.0, False), (1.0, True)):
        out = styled(SLAug(local=local, falling=0.5), batch)
        apart = [abs(float(image[:, :8][..., black].mean() - image[:, 8:][..., black].mean())) > 0.1 for image in out]
        assert any(apart) == expected


def test_images_keep_their_range() -> None:
    images = images_of("A", 8)["image"]
    out = styled(SLAug(), with_images(images))
    assert bool((out.amin((1, 2, 3)) >= images.amin((1, 2, 3)) - 1e-5).all())
    assert bool((out.amax((1, 2, 3)) <= images.amax((1, 2, 3)) + 1e-5).all())


def test_the_saliency_is_high_where_the_loss_depends_on_the_image() -> None:
    """Gradients in one corner only, however small: 1 there, 0 in the opposite corner."""
    for size in (1.0, 1e-12):
        gradient = torch.zeros(1, 3, 72, 72)
        gradient[..., :8, :8] = size
        share = saliency_map(gradient)
        assert share.shape == (1, 1, 72, 72)
        assert share[0, 0, 0, 0] == pytest.approx(1)
        assert share[0, 0, -1, -1] == 0
    assert torch.equal(saliency_map(torch.zeros(1, 3, 72, 72)), torch.zeros(1, 1, 72, 72))


def test_the_fusion_is_a_second_supervised_pass() -> None:
    """With a saliency of 0 everywhere, the loss of images restyled class by class is added; with 1, the loss twice."""
    batch = images_of("A")
    with second_round(SLAug(saliency=True)) as module:
        (plugin,) = module.plugins
        new = plugin.transform_batch(batch)
        local = plugin._local  # type: ignore[attr-defined]
        losses = [module.criterion(module(images), batch["mask"], batch["valid"]) for images in (new["image"], local)]
    for share, index in ((0.0, 1), (1.0, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fedlight_algorithms.slaug.saliency_map", partial(_constant, share))
            with second_round(SLAug(saliency=True)) as module:
                loss = module.training_step(batch, 0)
        torch.testing.assert_close(loss, losses[0] + losses[index])


def _constant(share: float, gradient: Tensor) -> Tensor:
    return torch.full_like(gradient[:, :1], share)


def test_with_saliency_it_keeps_the_promises_of_a_plugin() -> None:
    fusing: Any = partial(SLAug, saliency=True)
    for check in (checks.hard_batches_stay_finite, checks.inputs_are_not_modified, checks.hooks_are_gone):
        check(fusing)
    null = Clinic.of(FedAvg(), [fusing(p=0.0)]).play(2).server.params
    assert digest(null) == digest(Clinic.of(FedAvg()).play(2).server.params)


@pytest.mark.parametrize("arguments", [{"local": 1.5}, {"falling": -1.0}, {"scale": -0.1}, {"shift": -1.0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        SLAug(**arguments).validate()
