"""Claims about giving images the style that a federation's sites have shared."""

from __future__ import annotations

import pytest
import torch
from fedlight_algorithms import CCST, AmplitudeMix, CrossMixStyle
from torch import Tensor

from fedlight.plugins.amplitude import low_frequencies, spectrum_of
from fedlight.plugins.federation_style import AmplitudeStyle, MomentStyle, federation_style, gain_at, tiles
from fedlight.plugins.style_bank import MomentBank
from fedlight.statistics import channel_moments


def image(height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(seed))


def whole(images: Tensor) -> Tensor:
    return torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)


def own_amplitude(images: Tensor, size: tuple[int, int], b: int = 3) -> Tensor:
    return low_frequencies(spectrum_of(*tiles(images[0], whole(images)[0], size)), b).abs().mean(0)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 23), (11, 30), (7, 9)])
def test_amplitudes_of_the_image_itself_change_nothing(height: int, width: int) -> None:
    own = image(height, width)
    styled = AmplitudeStyle(own_amplitude(own, (16, 16)), (16, 16)).put_on(own, whole(own))
    torch.testing.assert_close(styled, own, rtol=0, atol=1e-5)


def test_an_image_of_the_training_size_gets_the_amplitudes_and_keeps_its_phases() -> None:
    own, other = image(), image(seed=1)
    styled = AmplitudeStyle(own_amplitude(other, (16, 16)), (16, 16)).put_on(own, whole(own))
    torch.testing.assert_close(own_amplitude(styled, (16, 16)), own_amplitude(other, (16, 16)))
    before, after = (torch.fft.rfft2(each, norm="forward") for each in (own, styled))
    torch.testing.assert_close(low_frequencies(after, 3).angle().cos(), low_frequencies(before, 3).angle().cos())
    outside = torch.ones(16, 9, dtype=torch.bool)
    outside[torch.arange(-3, 4)[:, None], torch.arange(4)] = False
    torch.testing.assert_close(after[..., outside], before[..., outside])


def test_a_grey_image_gets_the_references_brightness() -> None:
    """Its only amplitude is its mean, 0.25; the reference's is 0.5. Larger than a tile or not, all of it is 0.5."""
    reference = torch.zeros(1, 3, 2)
    reference[0, 1, 0] = 0.5
    grey = torch.full((1, 1, 24, 20), 0.25)
    styled = AmplitudeStyle(reference, (8, 8)).put_on(grey, whole(grey))
    torch.testing.assert_close(styled, torch.full_like(grey, 0.5))


def test_a_gain_lies_at_its_frequencies_and_fades_to_one_beyond_the_window() -> None:
    """One period in a tile of 8 is two in an image of 16; three lie halfway between gain 5 and none, which is 1."""
    gain = torch.ones(1, 3, 2)
    gain[0, 1, 1] = 5.0
    found = gain_at(gain, (16, 16), (8, 8))
    assert found.shape == (1, 16, 9)
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 3.0, 5.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(found[0, :, 2], torch.tensor([5.0, 3.0, *[1.0] * 13, 3.0]))


def test_moments_are_exchanged() -> None:
    """Values 0 and 2 have mean 1 and deviation 1; with mean 5 and deviation 3 they are 2 and 8."""
    values = torch.tensor([0.0, 2.0]).repeat(8).view(1, 1, 4, 4)
    styled = MomentStyle(torch.tensor([[5.0], [3.0]]), (0, 0)).put_on(values, whole(values))
    torch.testing.assert_close(styled, torch.where(values == 0, 2.0, 8.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (0, 0)])
def test_moments_of_the_image_itself_change_nothing(size: tuple[int, int]) -> None:
    own = image()
    mean, variance = channel_moments(*tiles(own[0], whole(own)[0], size))
    reference = torch.stack([mean, variance.sqrt()], 1).mean(0).flatten(1)  # (2, C)
    torch.testing.assert_close(MomentStyle(reference, size).put_on(own, whole(own)), own)


@pytest.mark.parametrize(
    "style", [AmplitudeStyle(torch.ones(2, 7, 4), (16, 16)), MomentStyle(torch.ones(2, 2), (0, 0))]
)
def test_what_is_not_valid_keeps_its_values_and_counts_for_nothing(style: AmplitudeStyle | MomentStyle) -> None:
    """An image without a valid pixel stays as it is."""
    images = image().repeat(2, 1, 1, 1)
    valid = whole(images)
    valid[0, :, 10:] = False
    valid[1] = False
    styled = style.put_on(images, valid)
    assert torch.equal(styled[0, :, :, 10:], images[0, :, :, 10:])
    assert not torch.equal(styled[0, :, :, :10], images[0, :, :, :10])
    assert torch.equal(styled[1], images[1])
    images[0, :, :, 10:] = 9
    torch.testing.assert_close(style.put_on(images, valid)[0, :, :, :10], styled[0, :, :, :10])


def test_tiles_cover_an_image_and_those_without_a_valid_pixel_are_left_out() -> None:
    """20 x 8 in tiles of 8: rows from 0, 6 and 12; nothing counts in the last rows."""
    rows = torch.arange(20.0).view(1, 20, 1).expand(1, 20, 8)
    valid = torch.ones(20, 8, dtype=torch.bool)
    assert [int(tile[0, 0, 0]) for tile in tiles(rows, valid, (8, 8))[0]] == [0, 6, 12]
    valid[12:] = False
    cut, inside = tiles(rows, valid, (8, 8))
    assert [int(tile[0, 0, 0]) for tile in cut] == [0, 6]
    assert inside[1].sum() == 6 * 8
    assert tiles(rows, torch.ones(20, 8, dtype=torch.bool), (0, 0))[0].shape == (1, 1, 20, 8)


def named(plugin: AmplitudeMix | MomentBank) -> AmplitudeMix | MomentBank:
    plugin.instance_id = "it"
    return plugin


def test_the_reference_is_the_mean_over_sites_of_what_they_shared() -> None:
    bank = {"a/amplitude": torch.zeros(1, 3, 2), "b/amplitude": torch.ones(1, 3, 2), "b/deviation": torch.ones(1, 3, 2)}
    style = federation_style([named(AmplitudeMix())], {"it": bank}, (8, 8))
    assert isinstance(style, AmplitudeStyle)
    assert torch.equal(style.reference, torch.full((1, 3, 2), 0.5))


@pytest.mark.parametrize("extra", [(), ((9.0,), (9.0,))])
def test_moments_are_those_at_the_input(extra: tuple[tuple[float], ...]) -> None:
    """Mean of mu 1 and 3, of sigma 2 and 4; how they vary over images, where that is shared, is no style."""
    bank = {
        f"{site}/input": torch.tensor([*style, *extra])
        for site, style in (("a", [[1.0], [2.0]]), ("b", [[3.0], [4.0]]))
    }
    style = federation_style([named(CCST())], {"it": bank}, (8, 8))
    assert isinstance(style, MomentStyle)
    assert style.reference.flatten().tolist() == [2.0, 3.0]


def test_a_bank_of_single_images_counts_by_its_mean() -> None:
    bank = {"a/input": torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])}
    style = federation_style([named(CCST(variant="single"))], {"it": bank}, (8, 8))
    assert isinstance(style, MomentStyle)
    assert style.reference.flatten().tolist() == [2.0, 3.0]


def test_styles_of_features_and_empty_banks_say_nothing_of_images() -> None:
    bank = {"it": {"a/encoder1": torch.ones(4, 8)}}
    assert federation_style([named(CrossMixStyle())], bank, (8, 8)) is None
    assert federation_style([named(AmplitudeMix())], {}, (8, 8)) is None
    assert federation_style([], {}, (8, 8)) is None
