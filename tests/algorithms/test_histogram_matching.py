"""HistogramMatching: quantiles, the mapping, when the reference is known and where it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, HistogramMatching
from fedlight_algorithms.histogram_matching import BINS, match, quantiles_of
from torch import Tensor

from fedlight.data_format import DataFormat
from fedlight.state import num_bytes
from tests.contracts.harness import SITES, Clinic, context_of, images_of


def row(*values: float) -> Tensor:
    return torch.tensor([[[values]]], dtype=torch.float32)  # (1, 1, 1, n)


def everywhere(images: Tensor) -> Tensor:
    return torch.ones_like(images[:, :1], dtype=torch.bool)


def test_intensities_take_on_the_reference_at_their_rank() -> None:
    """The middle ranks of four are 1/8, 3/8, 5/8, 7/8; straight lines through 0, 10, 20, 30, 80 give 5, 15, 25, 55."""
    target = torch.tensor([[0.0, 10.0, 20.0, 30.0, 80.0]])
    image = row(3, 1, 4, 2)
    torch.testing.assert_close(match(image, everywhere(image), target), row(25, 5, 55, 15))


def test_equal_intensities_share_their_middle_rank() -> None:
    """Of 0, 0, 0, 1 the zeros have 3/8 and the one 7/8."""
    image = row(0, 1, 0, 0)
    torch.testing.assert_close(match(image, everywhere(image), torch.tensor([[0.0, 80.0]])), row(30, 70, 30, 30))


def test_quantiles_of_an_even_ramp_are_even() -> None:
    """Of 4096 values from 0 to 1, up to a bin of the histogram; the ends are exact."""
    image = torch.linspace(0, 1, 4096).reshape(1, 1, 64, 64)
    found = quantiles_of(image, everywhere(image), 9)[0, 0]
    torch.testing.assert_close(found, torch.linspace(0, 1, 9), rtol=0, atol=1 / BINS)
    assert found[[0, -1]].tolist() == [0.0, 1.0]


def test_quantiles_are_those_of_valid_pixels() -> None:
    """Of 0, 1 and 4 the middle one is 1; 99 does not count."""
    image, inside = row(4, 0, 99, 1), torch.tensor([[[[True, True, False, True]]]])
    found = quantiles_of(image, inside, 3).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 4.0]), rtol=0, atol=4.1 / BINS)


def test_with_its_own_quantiles_an_image_stays_itself() -> None:
    """Of 64 x 64 even intensities, up to a bin of the histogram and a step of the ranks."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    own = quantiles_of(image, everywhere(image), 256)[0]
    torch.testing.assert_close(match(image, everywhere(image), own), image, rtol=0, atol=0.003)


def test_brightness_contrast_and_gamma_of_a_device_disappear() -> None:
    """Whatever rises with the intensity leaves ranks alone: 3 x + 1 and the square root of x are mapped as x is."""
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = torch.linspace(0, 1, 64).square().expand(3, -1)
    expected = match(image, everywhere(image), target)
    for other in (3 * image + 1, image.sqrt()):
        torch.testing.assert_close(match(other, everywhere(image), target), expected, rtol=0, atol=0.02)


def test_an_image_of_one_value_gets_the_median() -> None:
    image = torch.full((1, 1, 4, 4), 7.0)
    assert torch.equal(match(image, everywhere(image), torch.tensor([[0.0, 5.0, 9.0]])), torch.full_like(image, 5.0))


def test_half_the_strength_goes_half_the_way() -> None:
    reference = {"quantiles": torch.tensor([[0.0, 10.0, 20.0, 30.0, 80.0]])}
    valid = torch.ones(1, 1, 4, dtype=torch.bool)
    half = HistogramMatching(strength=0.5).harmonise(row(3, 1, 4, 2), valid, reference)
    torch.testing.assert_close(half, row(14, 3, 29.5, 8.5))


def test_pixels_that_do_not_count_neither_change_nor_matter() -> None:
    reference = {"quantiles": torch.linspace(0, 1, 16).expand(3, -1)}
    batch = images_of("A")
    valid = batch["valid"][:, None].expand_as(batch["image"])
    spoiled = torch.where(valid, batch["image"], 99.0)
    clean, other = (
        HistogramMatching().harmonise(each, batch["valid"], reference) for each in (batch["image"], spoiled)
    )
    assert torch.equal(clean[valid], other[valid])
    assert torch.equal(other[~valid], spoiled[~valid])


def test_the_reference_is_the_sites_mean_and_frozen() -> None:
    """Sites with 1 and 3 agree on 2, whatever comes later."""
    plugin = HistogramMatching()
    plugin.begin(context_of(), {})
    for site, value in (("A", 1.0), ("B", 3.0)):
        plugin.add(site, 1, {"quantiles": torch.full((3, 4), value)})
    known = plugin.finish()
    assert torch.equal(known["quantiles"], torch.full((3, 4), 2.0))
    plugin.begin(context_of(round=2), known)
    plugin.add("A", 1, {"quantiles": torch.full((3, 4), 9.0)})
    assert plugin.finish() == known


def test_it_is_shared_once() -> None:
    """256 levels of 3 channels, float32: 3072 bytes; nothing goes up in the second round."""
    clinic = Clinic.of(FedAvg(), [HistogramMatching()])
    first = clinic.fit("A", clinic.broadcast())
    assert num_bytes(dict(first.shared["HistogramMatching"])) == 3072
    assert num_bytes(dict(clinic.play(1).server.shared["HistogramMatching"])) == 3072
    assert clinic.fit("A", clinic.broadcast()).shared == {}


def test_a_site_with_few_images_shares_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clinic = Clinic.of(FedAvg(), [HistogramMatching(min_images=99)]).play(1)
    assert clinic.server.shared == {}
    assert "HistogramMatching is idle: no site saw 99 different images" in caplog.text


def test_evaluation_sees_what_training_saw() -> None:
    """At every site, images have the federation's quantiles when they are evaluated."""
    clinic = Clinic.of(FedAvg(), [HistogramMatching(quantiles=17)]).play(1)
    reference = clinic.server.shared["HistogramMatching"]["quantiles"]
    for site in SITES:
        client, batch = clinic.clients[site], images_of(site, size=64)
        batch["image"] = torch.rand(batch["image"].shape, generator=torch.Generator().manual_seed(0))
        batch["valid"] = torch.ones_like(batch["valid"])
        client.receive(clinic.broadcast())
        seen = client.module.seen(batch)
        inner = quantiles_of(seen, everywhere(seen), 17)[..., 1:-1]
        torch.testing.assert_close(inner, reference[:, 1:-1].expand_as(inner), rtol=0, atol=0.02)


def test_patches_are_refused() -> None:
    patches = DataFormat(("background", "square"), 3, (64, 64), patches=True)
    with pytest.raises(ValueError, match="Train on whole images"):
        HistogramMatching().check(patches)
    HistogramMatching(strength=0.0).check(patches)


@pytest.mark.parametrize("arguments", [{"strength": 1.5}, {"quantiles": 1}, {"min_images": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        HistogramMatching(**arguments).validate()
