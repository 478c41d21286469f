"""Styles of single images: laws that hold for every one of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import BigAug
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.discovery import discover, registered
from fedlight.plugins.image_style import ImageStyle
from tests.contracts.harness import images_of

discover()
STYLES = [info.cls for info in registered() if issubclass(info.cls, ImageStyle)]
STRENGTHS = {BigAug: 1 - 0.7**6}
"""Share of images that a style changes at p = 0.3, where it is not 0.3."""

every_style = pytest.mark.parametrize("cls", STYLES, ids=lambda cls: cls.__name__)


def styled(plugin: Any, batch: Batch, seed: int = 0) -> Tensor:
    plugin.generator = torch.Generator().manual_seed(seed)
    images: Tensor = plugin.transform_batch(batch)["image"]
    return images


def with_images(images: Tensor, valid: bool = True) -> Batch:
    """A batch in which every pixel counts, or none does."""
    batch = images_of("A", len(images))
    return {**batch, "image": images, "valid": torch.full_like(batch["valid"], valid)}


@every_style
def test_the_normalisation_of_the_data_does_not_matter(cls: type[Any]) -> None:
    """An image on another scale, 4 x + 8, is changed as x is; looking up a curve may differ by a step of a table."""
    batch = images_of("A")
    other: Batch = {**batch, "image": 4 * batch["image"] + 8}
    expected = 4 * styled(cls(p=1.0), batch) + 8
    off = (styled(cls(p=1.0), other) - expected).abs() / (expected.max() - expected.min())
    assert off.mean() < 1e-4
    assert off.max() < 0.02


@every_style
def test_an_image_of_one_value_stays_as_it_is(cls: type[Any]) -> None:
    for value in (0.0, 0.5, -3.0):
        images = torch.full((4, 3, 16, 16), value)
        torch.testing.assert_close(styled(cls(p=1.0), with_images(images)), images, rtol=0, atol=1e-4)


@every_style
def test_pixels_that_do_not_count_neither_change_nor_matter(cls: type[Any]) -> None:
    """Whatever stands in the corner that is not valid stays there and does not change the rest."""
    batch, spoiled = images_of("A"), images_of("A")
    valid = batch["valid"][:, None].expand_as(batch["image"])
    spoiled["image"] = torch.where(valid, batch["image"], 99.0)
    out, other = styled(cls(p=1.0), batch), styled(cls(p=1.0), spoiled)
    torch.testing.assert_close(other[valid], out[valid])
    assert torch.equal(other[~valid], spoiled["image"][~valid])
    assert not torch.equal(out[valid], batch["image"][valid])


@every_style
def test_an_image_without_a_valid_pixel_stays(cls: type[Any]) -> None:
    images = images_of("A")["image"]
    assert torch.equal(styled(cls(p=1.0), with_images(images, valid=False)), images)


@every_style
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_and_is_finite(cls: type[Any], dtype: torch.dtype) -> None:
    batch = images_of("A")
    out = styled(cls(p=1.0), {**batch, "image": batch["image"].to(dtype)})
    assert out.dtype == dtype
    assert bool(out.isfinite().all())


@every_style
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_tiny_images_work(cls: type[Any], size: tuple[int, int], channels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    mask = torch.randint(3, (2, *size), generator=draw)
    images = torch.rand(2, channels, *size, generator=draw)
    batch: Batch = {**images_of("A", 2), "image": images, "mask": mask, "valid": torch.ones(2, *size, dtype=torch.bool)}
    for seed in range(5):
        assert bool(styled(cls(p=1.0), batch, seed).isfinite().all())


@every_style
def test_equal_images_get_different_looks(cls: type[Any]) -> None:
    batch = with_images(images_of("A", 1)["image"].expand(6, -1, -1, -1))
    out = styled(cls(p=1.0), {**batch, "mask": batch["mask"][:1].expand(6, -1, -1)})
    apart = (out[:, None] - out[None]).abs().flatten(2).amax(2)
    assert bool((apart + torch.eye(6) > 1e-3).all())


@every_style
def test_p_is_the_share_of_images_that_change(cls: type[Any]) -> None:
    """Of 600 images, within five standard deviations; sqrt(0.25 / 600) is 0.02 at most."""
    images = images_of("A", 1)["image"].expand(600, -1, -1, -1)
    out = styled(cls(p=0.3), with_images(images))
    share = (out != images).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(STRENGTHS.get(cls, 0.3), abs=0.1)


@every_style
@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_impossible_probabilities_are_refused(cls: type[Any], p: float) -> None:
    with pytest.raises(ValueError, match=r"p must be a probability in \[0, 1\]"):
        cls(p=p).validate()
