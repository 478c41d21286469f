from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlight.data.acquisition import Device, acquire, blurred, compressed, device, lit, responded
from fedlight.data.anatomy import CLASSES, Anatomy, draw
from fedlight.data.cases import Case
from fedlight.data.federated import DataError
from fedlight.data.synthetic import SyntheticSites
from fedlight.randomness import generator


def images(data: SyntheticSites, site: str) -> torch.Tensor:
    return torch.cat([batch["image"] for batch in data.loader(site, "train")])


@pytest.mark.parametrize("anatomy", CLASSES)
@pytest.mark.parametrize("size", [16, 64])
def test_every_anatomy_shows_every_class(anatomy: Anatomy, size: int) -> None:
    data = SyntheticSites(num_sites=2, cases=6, image_size=size, anatomy=anatomy)
    data.prepare()
    assert data.survey().findings == ()
    assert next(iter(data.train_loader("site1", seed=0)))["image"].shape[-2:] == (size, size)
    assert data.format.classes == CLASSES[anatomy]


def test_one_seed_gives_one_federation() -> None:
    first, again, other = (SyntheticSites(cases=6, image_size=16, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(images(first, "site2"), images(again, "site2"))
    assert not torch.equal(images(first, "site2"), images(other, "site2"))


def test_more_sites_and_cases_leave_the_first_ones_alone() -> None:
    small, large = (SyntheticSites(num_sites=n, cases=4 + n, image_size=16) for n in (2, 5))
    for data in (small, large):
        data.prepare()
    first = {case.name: case.facts.digest for case in _all(small, "site1")}
    second = {case.name: case.facts.digest for case in _all(large, "site1")}
    assert first.items() <= second.items()


def _all(data: SyntheticSites, site: str) -> list[Case]:
    return [case for cases in data.survey().cases[site].values() for case in cases]


def test_sites_may_have_different_numbers_of_cases() -> None:
    data = SyntheticSites(num_sites=3, cases=[4, 6, 12], image_size=16, held_out="site3")
    assert data.sites == ("site1", "site2")
    assert [sum(row[stage] for stage in ("train", "val", "test")) for row in data.describe()] == [4, 6, 12]


def test_ten_sites_sort_by_number() -> None:
    data = SyntheticSites(num_sites=10, cases=3, image_size=16)
    assert data.sites == tuple(f"site{k:02d}" for k in range(1, 11))


def test_zero_shift_is_one_perfect_device_everywhere() -> None:
    assert {device(seed, index, 0.0) for seed in range(3) for index in range(5)} == {Device()}
    colour = draw("fundus", 16, generator(0)).colour
    expected = (colour * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(acquire(colour, Device(), generator(0)), expected)


def test_devices_of_a_federation_differ() -> None:
    assert len({device(0, index, 1.0) for index in range(20)}) == 20


def test_masks_do_not_depend_on_the_device() -> None:
    near, far = (SyntheticSites(num_sites=2, cases=4, image_size=16, shift=shift) for shift in (0.0, 1.0))
    for plain, shifted in zip(near.loader("site1", "val"), far.loader("site1", "val"), strict=True):
        assert torch.equal(plain["mask"], shifted["mask"])
        assert not torch.equal(plain["image"], shifted["image"])


def test_gains_and_crosstalk_mix_colours() -> None:
    """Red alone, half of it seen by green: (1 - 0.5) * 2 of red, and 0.5 * 4 of green."""
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    assert responded(red, (2.0, 4.0, 8.0), 0.5).flatten().tolist() == [1.0, 2.0, 0.0]


def test_light_falls_off_to_the_corners_and_to_one_side() -> None:
    """Of 2 x 2 pixels, the centres are at -0.5 and 0.5: 1 - 0.4 * 0.5 / 2 = 0.9, times 1 - 0.1 and 1 + 0.1."""
    light = lit(torch.ones(3, 2, 2), vignette=0.4, tilt=0.2)[0]
    torch.testing.assert_close(light, torch.tensor([[0.81, 0.99], [0.81, 0.99]]))


def test_blur_keeps_the_mean_of_a_flat_image_and_spreads_a_point() -> None:
    flat = torch.full((3, 32, 32), 0.3)
    torch.testing.assert_close(blurred(flat, 0.05), flat)
    point = torch.zeros(3, 33, 33)
    point[:, 16, 16] = 1
    spread = blurred(point, 1 / 33)  # a standard deviation of one pixel
    torch.testing.assert_close(spread.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(spread[0, 16, 17] / spread[0, 16, 16], torch.tensor(np.exp(-0.5), dtype=torch.float32))


def test_compression_changes_pixels_a_little() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(compressed(image, 100), image)
    assert compressed(image, 50).shape == image.shape
    assert (compressed(image, 50) != image).any()


def test_sites_really_look_different() -> None:
    """Between sites, mean colours differ by more than within a site; with shift 0 they do not."""

    def spread(shift: float) -> float:
        data = SyntheticSites(cases=8, image_size=16, shift=shift)
        means = torch.stack([images(data, site).mean((0, 2, 3)) for site in data.sites])
        return float(means.std(0).max())

    assert spread(1.0) > 5 * spread(0.0)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (SyntheticSites(cases=[3, 3]), "data.cases has 2 numbers for 4 sites"),
        (SyntheticSites(num_sites=1, held_out="site1"), "at least one site must train"),
        (SyntheticSites(image_size=8), "data.image_size is 8"),
        (SyntheticSites(shift=-1.0), "data.shift is -1"),
        (SyntheticSites(cases=2), "site site1: 2 usable cases"),
        (SyntheticSites(held_out="site5"), "there is no site site5. Did you mean site"),
    ],
)
def test_a_wrong_argument_is_one_sentence(data: SyntheticSites, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        data.prepare()
    assert any(sentence in text for text in caught.value.args), caught.value.args
