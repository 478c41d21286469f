"""BigAug: every transform for given numbers, and the shapes that its config leaves to the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fedlight_algorithms import BigAug
from fedlight_algorithms.bigaug import sharpened
from torch import Tensor

from fedlight.__main__ import main
from fedlight.data import SyntheticSites
from fedlight.plugins.convolution import blurred
from tests.algorithms.test_image_styles import styled, with_images

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALL = torch.ones(1, 1, 1, 3, dtype=torch.bool)


def levels(*values: float) -> Tensor:
    return torch.tensor([[[list(values)]]])  # (1, 1, 1, n)


def begun(**arguments: Any) -> BigAug:
    plugin = BigAug(**arguments)
    plugin.generator = torch.Generator().manual_seed(0)
    return plugin


def test_exponents_bend_intensities_that_are_clipped_to_the_range() -> None:
    """0.5 squared is 0.25; -1 and 2 count as 0 and 1."""
    bent = begun(gamma=(2.0, 2.0))._gamma(levels(0.5, -1, 2), ALL)
    torch.testing.assert_close(bent, levels(0.25, 0, 1))


def test_exponents_are_as_often_above_one_as_below() -> None:
    """Between 1/2 and 2, of 0.5: half of the results are below 0.5, none outside [0.25, 0.5 ** 0.5]."""
    bent = begun(gamma=(0.5, 2.0))._gamma(torch.full((1000, 1, 1, 1), 0.5), ALL)
    assert 0.25 <= bent.min() < 0.26
    assert 0.69 < bent.max() <= 0.5**0.5
    assert (bent < 0.5).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_brightness_shifts_and_perturbation_scales_and_shifts() -> None:
    """0.5 moves by 0.1 at most; 2 becomes 2 (1 + c) + d, with c and d within 0.1: from 1.7 to 2.3."""
    shifted = begun()._brighten(torch.full((1000, 1, 1, 1), 0.5), ALL)
    assert 0.4 <= shifted.min() < 0.41 < 0.59 < shifted.max() <= 0.6
    perturbed = begun()._perturb(torch.full((4000, 1, 1, 1), 2.0), ALL)
    assert 1.7 <= perturbed.min() < 1.73 < 2.27 < perturbed.max() <= 2.3


def test_noise_has_the_drawn_deviation() -> None:
    noisy = begun(noise=(0.07, 0.07))._noise(torch.zeros(2, 3, 100, 100), ALL)
    assert noisy.std().item() == pytest.approx(0.07, rel=0.05)


def test_a_blur_is_a_gaussian_of_the_images_own_width() -> None:
    """A point spreads as exp(-d^2 / 2 sigma^2), and its sum stays; sigma is 1 for the first image, then 0.5."""
    point = torch.zeros(2, 1, 21, 21)
    point[..., 10, 10] = 1
    spread = blurred(point, torch.ones(2, 1, 21, 21, dtype=torch.bool), torch.tensor([1.0, 0.5]))
    for image, sigma in zip(spread[:, 0], (1.0, 0.5), strict=True):
        assert image.sum().item() == pytest.approx(1, abs=1e-4)
        assert (image[10, 11] / image[10, 10]).item() == pytest.approx(2.718281828 ** (-1 / (2 * sigma**2)), rel=1e-4)
        assert (image[9, 11] / image[10, 10]).item() == pytest.approx(2.718281828 ** (-1 / sigma**2), rel=1e-4)


def test_a_blur_takes_nothing_from_pixels_that_do_not_count() -> None:
    """An image of one value stays so up to its edges, whatever stands outside."""
    inside = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    inside[..., :4] = False
    image = torch.where(inside, 5.0, 1e6)
    torch.testing.assert_close(blurred(image, inside, torch.tensor([1.5]))[inside], torch.full((45,), 5.0))


def test_sharpening_raises_edges_and_stays_in_the_range() -> None:
    """0.4 | 0.6: flat parts stay, the bright side of the edge gets brighter, the dark one darker; none leaves [0, 1].

    A strength of 0 leaves the first blur.
    """
    edge = torch.where(torch.arange(20) < 10, 0.4, 0.6).expand(1, 1, 20, 20)
    inside, sigma = torch.ones(1, 1, 20, 20, dtype=torch.bool), torch.tensor([0.5])
    strong = [sharpened(edge, inside, sigma, torch.full((1, 1, 1, 1), a))[0, 0, 10] for a in (0.0, 10.0, 1000.0)]
    torch.testing.assert_close(strong[0], blurred(edge, inside, sigma)[0, 0, 10])
    torch.testing.assert_close(strong[1][[0, -1]], torch.tensor([0.4, 0.6]))
    assert strong[1][9] < 0.35 < 0.65 < strong[1][10]
    assert 0 <= strong[2].min() < strong[2].max() <= 1


def test_a_pixel_may_leave_the_range_only_by_noise_brightness_and_perturbation() -> None:
    images = torch.rand(50, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = styled(BigAug(p=1, noise=(0.0, 0.0), brightness=0.0, perturbation=0.0), with_images(images))
    low, high = (extreme(images, (1, 2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
    assert bool(((out >= low - 1e-5) & (out <= high + 1e-5)).all())


def test_its_config_appends_shapes_to_the_transforms_of_any_data(capsys: pytest.CaptureFixture[str]) -> None:
    """The flips of the retina's config stay; the quickstart's synthetic sites have none."""
    for base, before in (("quickstart", 0), ("retina", 3)):
        with pytest.raises(SystemExit):
            main(["fit", "-c", f"{CONFIGS}/{base}.yaml", "-c", f"{CONFIGS}/algorithms/bigaug.yaml", "--print_config"])
        transforms = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["transforms"]
        assert len(transforms) == before + 3
        assert [each["class_path"] for each in transforms[before:]] == ["Affine", "Affine", "GridDistortion"]


def test_its_shapes_move_masks_with_images() -> None:
    """Every image of the synthetic sites has its disc where the mask says, moved or not; what comes in is not valid."""
    setting = yaml.safe_load((CONFIGS / "algorithms" / "bigaug.yaml").read_text())["data"]["init_args"]["transforms+"]
    plain, moved = (
        next(iter(_prepared(transforms).train_loader("site1", seed=3, steps=1))) for transforms in ((), setting)
    )
    assert plain["case"] == moved["case"]
    assert not torch.equal(plain["mask"], moved["mask"])
    assert moved["valid"].sum() < plain["valid"].sum() * 1.5
    for batch in (plain, moved):
        disc, rest = batch["mask"] > 0, (batch["mask"] == 0) & batch["valid"]
        for image, inside, outside in zip(batch["image"].mean(1), disc, rest, strict=True):
            assert image[inside].mean() > image[outside].mean()


def _prepared(transforms: Any) -> SyntheticSites:
    data = SyntheticSites(num_sites=1, cases=12, image_size=48, shift=0.5, transforms=transforms)
    data.prepare()
    return data


@pytest.mark.parametrize(
    "arguments",
    [
        {"sharpen": (3.0, 1.0)},
        {"blur": (0.0, 1.0)},
        {"gamma": (0.0, 1.0)},
        {"noise": (-1.0, 1.0)},
        {"brightness": -0.1},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        BigAug(**arguments).validate()
