"""AmplitudeMix: against hand-made waves and against the textbook form with a centred spectrum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import AmplitudeMix, FedAvg
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.amplitude import half_width, low_frequencies, mix
from fedlight.state import num_bytes
from fedlight.update import Broadcast
from tests.contracts.harness import SITES, Clinic, context_of, images_of, task

ACROSS = 2 * math.pi * torch.arange(8.0) / 8


def wave(mean: float, amplitude: float, frequency: int = 1) -> Tensor:
    """An (1, 1, 8, 8) image: a mean and a cosine across."""
    return (mean + amplitude * torch.cos(frequency * ACROSS)).expand(1, 1, 8, 8).clone()


def spectrum_of(images: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.rfft2(images, norm="forward")
    return spectrum


def begun(plugin: AmplitudeMix, bank: dict[str, Tensor], site: str = "A") -> AmplitudeMix:
    plugin.instance_id = "AmplitudeMix"
    plugin.generator = torch.Generator().manual_seed(0)
    plugin.on_round_start(site, task(), Broadcast(context_of(), {}, {}, {"AmplitudeMix": bank}))
    return plugin


def batch_of(images: Tensor) -> Batch:
    batch = images_of("A", len(images))
    return {**batch, "image": images, "valid": torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)}


def test_low_frequencies_take_on_the_other_amplitude() -> None:
    """1 + 2 cos has amplitudes 1 (mean) and 1 (each of the frequencies +1 and -1); 3 + 8 cos has 3 and 4.

    Half way: mean 2 and 2.5, so 2 + 5 cos. A cos of frequency 2 is outside the window of half-width 1 and stays.
    """
    image = wave(1, 2) + wave(0, 7, frequency=2)
    other = low_frequencies(spectrum_of(wave(3, 8)), 1).abs()
    mixed = mix(spectrum_of(image), other, torch.tensor([0.5]), 1, (8, 8))
    torch.testing.assert_close(mixed, wave(2, 5) + wave(0, 7, frequency=2))


def test_phase_is_kept() -> None:
    """A sine stays a sine when it takes on the amplitude of a cosine: 1 + 2 sin becomes 3 + 8 sin."""
    sine = (1 + 2 * torch.sin(ACROSS)).expand(1, 1, 8, 8)
    other = low_frequencies(spectrum_of(wave(3, 8)), 1).abs()
    expected = (3 + 8 * torch.sin(ACROSS)).expand(1, 1, 8, 8)
    torch.testing.assert_close(mix(spectrum_of(sine), other, torch.ones(1), 1, (8, 8)), expected)


@pytest.mark.parametrize("size", [(16, 16), (15, 21), (16, 13)])
def test_equals_the_textbook_form_with_a_centred_spectrum(size: tuple[int, int]) -> None:
    """|F| mixed inside |k| <= b of the shifted full spectrum, phase kept, real part of the inverse."""
    draw = torch.Generator().manual_seed(0)
    image, other = (torch.rand(2, 3, *size, generator=draw) for _ in range(2))
    b, share = 2, torch.tensor([0.3, 0.9])
    full, full_other = (torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1)) for x in (image, other))
    amplitude, phase = full.abs(), full.angle()
    rows = slice(size[0] // 2 - b, size[0] // 2 + b + 1)
    columns = slice(size[1] // 2 - b, size[1] // 2 + b + 1)
    weight = share[:, None, None, None]
    inside = (1 - weight) * amplitude + weight * full_other.abs()
    amplitude[..., rows, columns] = inside[..., rows, columns]
    expected = torch.fft.ifft2(torch.fft.ifftshift(torch.polar(amplitude, phase), dim=(-2, -1))).real
    window = low_frequencies(spectrum_of(other), b).abs()
    torch.testing.assert_close(mix(spectrum_of(image), window, share, b, size), expected, rtol=1e-4, atol=1e-5)


def test_zero_share_and_own_amplitude_change_nothing() -> None:
    image = images_of("A")["image"]
    own, size = low_frequencies(spectrum_of(image), 2).abs(), (16, 16)
    for share in (torch.zeros(4), torch.ones(4)):
        torch.testing.assert_close(mix(spectrum_of(image), own, share, 2, size), image)


def test_a_constant_image_gets_no_pattern() -> None:
    """Only the mean has a phase: 1 becomes 3 and stays flat."""
    other = low_frequencies(spectrum_of(wave(3, 8)), 1).abs()
    torch.testing.assert_close(mix(spectrum_of(wave(1, 0)), other, torch.ones(1), 1, (8, 8)), wave(3, 0))


def test_a_site_shares_its_mean_amplitude_and_nothing_outside_the_window() -> None:
    """Amplitudes 1 and 3 of the means, 1 and 4 of the waves: 2 and 2.5 on average. 3 x 2 numbers for b = 1."""
    plugin = begun(AmplitudeMix(window=0.125, min_images=2), {})
    plugin.transform_batch(batch_of(torch.cat([wave(1, 2), wave(3, 8)])))
    shared = plugin.on_round_end(task())["amplitude"]
    expected = torch.tensor([[0.0, 0.0], [2.0, 2.5], [0.0, 0.0]])  # rows k_y = -1, 0, 1; columns k_x = 0, 1
    torch.testing.assert_close(shared, expected[None], atol=1e-6, rtol=0)


def test_statistics_are_of_images_before_mixing() -> None:
    other = low_frequencies(spectrum_of(wave(3, 8)), 1)[0].abs()
    batch = batch_of(torch.cat([wave(1, 2)] * 4))
    shared = []
    for bank in ({}, {"B/amplitude": other}):
        plugin = begun(AmplitudeMix(p=1, window=0.125, min_images=1), bank)
        plugin.transform_batch(batch)
        shared.append(plugin.on_round_end(task())["amplitude"])
    assert torch.equal(*shared)


def test_pixels_that_do_not_count_neither_change_nor_matter() -> None:
    """Whatever stands in the corner that is not valid stays there and does not change the rest."""
    bank = {"B/amplitude": low_frequencies(spectrum_of(images_of("B")["image"]), 1).abs().mean(0)}
    batch, spoiled = images_of("A"), images_of("A")
    valid = batch["valid"][:, None].expand_as(batch["image"])
    spoiled["image"] = torch.where(valid, batch["image"], 99.0)
    out, other = (begun(AmplitudeMix(p=1), bank).transform_batch(each)["image"] for each in (batch, spoiled))
    assert torch.equal(out[valid], other[valid])
    assert torch.equal(other[~valid], spoiled["image"][~valid])
    assert not torch.equal(out[valid], batch["image"][valid])


def test_a_site_never_gets_its_own_amplitude() -> None:
    plugin = begun(AmplitudeMix(p=1), {"A/amplitude": torch.ones(3, 3, 2)})
    batch = images_of("A")
    assert plugin.transform_batch(batch) is batch


def test_strength_bounds_the_share() -> None:
    """Means of 1 mixed with 3 at strength 0.5 end in [1, 2], half way up on average."""
    bank = {"B/amplitude": low_frequencies(spectrum_of(wave(3, 0)), 1)[0].abs()}
    plugin = begun(AmplitudeMix(p=1, window=0.125, strength=0.5), bank)
    means = plugin.transform_batch(batch_of(wave(1, 0).expand(400, 1, 8, 8)))["image"].mean((1, 2, 3))
    assert 1 <= means.min() < 1.1
    assert 1.9 < means.max() <= 2.0001
    assert means.mean().item() == pytest.approx(1.5, abs=5 * 0.29 / 20)


def test_amplitudes_are_drawn_around_a_sites_mean() -> None:
    """Mean amplitude 3 with deviation 0.5 on images of mean 1, uniform shares t in [0, 1].

    Means become 1 + t (a - 1) with a from N(3, (0.5 spread)^2): the largest of 4000 is well above the 3 that spread 0
    cannot exceed, and none is below 0.
    """
    mean = low_frequencies(spectrum_of(wave(3, 0)), 1)[0].abs()
    bank = {"B/amplitude": mean, "B/deviation": mean / 6}
    many = batch_of(wave(1, 0).expand(4000, 1, 8, 8))
    tops = []
    for spread in (0.0, 2.0):
        out = begun(AmplitudeMix(p=1, window=0.125, spread=spread), bank).transform_batch(many)["image"]
        tops.append(out.mean((1, 2, 3)).max().item())
        assert out.mean((1, 2, 3)).min() >= 0
    assert tops[0] <= 3.0001
    assert 4 < tops[1] < 8


def test_deviations_are_shared_only_when_used() -> None:
    """Amplitudes 1 and 3 of the means, 1 and 4 of the waves: deviations 1 and 1.5."""
    batch = batch_of(torch.cat([wave(1, 2), wave(3, 8)]))
    plain, spread = (begun(AmplitudeMix(window=0.125, spread=s, min_images=2), {}) for s in (0.0, 1.0))
    for plugin in (plain, spread):
        plugin.transform_batch(batch)
    assert set(plain.on_round_end(task())) == {"amplitude"}
    deviation = spread.on_round_end(task())["deviation"]
    torch.testing.assert_close(deviation[0, 1], torch.tensor([1.0, 1.5]), atol=1e-6, rtol=0)


def test_the_bytes_double_with_spread() -> None:
    shared = Clinic.of(FedAvg(), [AmplitudeMix(spread=1)]).play(2).server.shared["AmplitudeMix"]
    assert num_bytes(dict(shared)) == 2 * 3 * 72


def test_an_empty_window_is_refused_with_the_way_out() -> None:
    """floor(0.01 * 64) = 0; the first frequency of 64 pixels needs 1 / 64 = 0.0156."""
    with pytest.raises(ValueError, match=r"got 0.01 for 64x96 images .* Use at least 0.0157"):
        half_width(0.01, 64, 96)
    assert half_width(0.0157, 64, 96) == 1


def test_windows_of_different_size_are_refused_by_name() -> None:
    plugin = AmplitudeMix()
    plugin.begin(context_of(), {})
    plugin.add("A", 1, {"amplitude": torch.ones(3, 3, 2)})
    with pytest.raises(ValueError, match=r"\(3, 5, 3\) from B and \(3, 3, 2\) for A"):
        plugin.add("B", 1, {"amplitude": torch.ones(3, 5, 3)})


def test_few_images_are_not_shared_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    assert Clinic.of(FedAvg(), [AmplitudeMix(min_images=7)]).play(1).server.shared == {}
    assert "no site saw 7 different images" in caplog.text


def test_the_bank_holds_half_a_window_of_every_site() -> None:
    """16 pixels, window 0.1: b = 1, 3 channels x 3 x 2 float32 numbers are 72 bytes a site."""
    shared = Clinic.of(FedAvg(), [AmplitudeMix()]).play(1).server.shared["AmplitudeMix"]
    assert set(shared) == {f"{site}/amplitude" for site in SITES}
    assert num_bytes(dict(shared)) == 3 * 72


@pytest.mark.parametrize(
    "arguments",
    [{"p": 2.0}, {"min_images": 0}, {"window": 0.5}, {"window": 0.0}, {"strength": 1.5}, {"spread": -1.0}],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        AmplitudeMix(**arguments).validate()
