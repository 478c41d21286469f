"""HarmoFL: amplitudes, when they are known, and the perturbation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, FedSAM, HarmoFL
from torch import Tensor

from fedlight.batch import Batch
from fedlight.data_format import DataFormat
from fedlight.plugins.amplitude import low_frequencies
from fedlight.preparation import ConfigError, prototypes
from fedlight.state import digest, num_bytes
from fedlight.update import Broadcast
from tests.contracts.harness import SITES, Clinic, context_of, images_of, task

ACROSS = 2 * math.pi * torch.arange(8.0) / 8
ALL = torch.ones(1, 8, 8, dtype=torch.bool)


def wave(mean: float, amplitude: float, frequency: int = 1) -> Tensor:
    """An (1, 1, 8, 8) image: a mean and a cosine across."""
    return (mean + amplitude * torch.cos(frequency * ACROSS)).expand(1, 1, 8, 8).clone()


def amplitude_of(image: Tensor, b: int) -> dict[str, Tensor]:
    return {"amplitude": low_frequencies(torch.fft.rfft2(image, norm="forward"), b)[0].abs()}


def batch_of(images: Tensor) -> Batch:
    valid = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)
    return {**images_of("A", len(images)), "image": images, "valid": valid}


def begun(plugin: HarmoFL) -> HarmoFL:
    plugin.instance_id = "HarmoFL"
    plugin.on_round_start("A", task(), Broadcast(context_of(), {}, {}))
    return plugin


def test_low_frequencies_get_the_federations_amplitude() -> None:
    """1 + 2 cos becomes 3 + 8 cos in the window of half-width 1; a wave of frequency 2 is outside and stays."""
    image = wave(1, 2) + wave(0, 7, frequency=2)
    harmonised = HarmoFL(window=0.125).harmonise(image, ALL, amplitude_of(wave(3, 8), 1))
    torch.testing.assert_close(harmonised, wave(3, 8) + wave(0, 7, frequency=2))


def test_released_code_replaces_the_mean_only() -> None:
    """1 + 2 cos becomes 3 + 2 cos."""
    harmonised = HarmoFL(released=True).harmonise(wave(1, 2), ALL, amplitude_of(wave(3, 8), 0))
    torch.testing.assert_close(harmonised, wave(3, 2))


def test_pixels_that_do_not_count_neither_change_nor_matter() -> None:
    reference = amplitude_of(images_of("B")["image"], 1)
    batch = images_of("A")
    valid = batch["valid"][:, None].expand_as(batch["image"])
    spoiled = torch.where(valid, batch["image"], 99.0)
    clean, other = (HarmoFL().harmonise(each, batch["valid"], reference) for each in (batch["image"], spoiled))
    assert torch.equal(clean[valid], other[valid])
    assert torch.equal(other[~valid], spoiled[~valid])


def test_a_site_shares_its_mean_amplitude_and_as_released_that_of_its_first_batch() -> None:
    """Means 1 and 3, waves of amplitude 1 and 4 at each of two frequencies: 2 and 2.5. As released, the mean 1."""
    paper = begun(HarmoFL(window=0.125, min_images=1))
    released = begun(HarmoFL(released=True, min_images=1))
    for plugin in (paper, released):
        for image in (wave(1, 2), wave(3, 8)):
            plugin.measure(batch_of(image))
    torch.testing.assert_close(paper.on_round_end(task())["amplitude"][0, 1], torch.tensor([2.0, 2.5]))
    torch.testing.assert_close(released.on_round_end(task())["amplitude"], torch.tensor([[[1.0]]]))


def test_the_amplitude_is_the_sites_mean_and_frozen() -> None:
    """Sites with 1 and 3 agree on 2, whatever comes later."""
    plugin = HarmoFL()
    plugin.begin(context_of(), {})
    for site, value in (("A", 1.0), ("B", 3.0)):
        plugin.add(site, 1, {"amplitude": torch.full((1, 3, 2), value)})
    known = plugin.finish()
    assert torch.equal(known["amplitude"], torch.full((1, 3, 2), 2.0))
    plugin.begin(context_of(round=2), known)
    plugin.add("A", 1, {"amplitude": torch.full((1, 3, 2), 9.0)})
    assert plugin.finish() == known


def test_it_is_shared_once() -> None:
    """16 pixels, b = 1: 3 channels x 3 x 2 float32 numbers are 72 bytes; nothing goes up in the second round."""
    clinic = Clinic.of(FedAvg(), [HarmoFL()])
    first = clinic.fit("A", clinic.broadcast())
    assert num_bytes(dict(first.shared["HarmoFL"])) == 72
    assert num_bytes(dict(clinic.play(1).server.shared["HarmoFL"])) == 72
    assert clinic.fit("A", clinic.broadcast()).shared == {}


def test_few_images_are_not_shared_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    """Six images a site, seven needed; nothing goes wrong, so it is a line in the log and not a Python warning."""
    clinic = Clinic.of(FedAvg(), [HarmoFL(min_images=7)]).play(1)
    assert "HarmoFL is idle: no site saw 7 different images" in caplog.text
    assert clinic.server.shared == {}


def test_without_normalisation_it_is_fedsam() -> None:
    harmo, sam = (Clinic.of(FedAvg(), [p]).play(2) for p in (HarmoFL(normalise=False, alpha=0.05), FedSAM(rho=0.05)))
    assert digest(harmo.server.params) == digest(sam.server.params)


def test_evaluation_sees_what_training_saw() -> None:
    """The client's module harmonises with the reference of the broadcast: means over the channels become those of A.

    Here all pixels count, so the amplitude at frequency 0 is the mean.
    """
    clinic = Clinic.of(FedAvg(), [HarmoFL()]).play(1)
    means = clinic.server.shared["HarmoFL"]["amplitude"][:, 1, 0]  # k_y = 0, k_x = 0
    for site in SITES:
        client, batch = clinic.clients[site], images_of(site)
        batch["valid"] = torch.ones_like(batch["valid"])
        client.receive(clinic.broadcast())
        torch.testing.assert_close(client.module.seen(batch).mean((2, 3)), means.expand(4, 3), rtol=1e-4, atol=1e-5)


def test_it_does_not_go_with_another_that_takes_gradients_elsewhere() -> None:
    with pytest.raises(
        ConfigError, match="at most one that takes the gradient at other parameters, got HarmoFL, FedSAM"
    ):
        prototypes(FedAvg(), [HarmoFL(), FedSAM()])


def test_patches_and_empty_windows_are_refused() -> None:
    form = DataFormat(("background", "square"), 3, (64, 64))
    with pytest.raises(ValueError, match=r"Use at least 0\.0157"):
        HarmoFL(window=0.01).check(form)
    with pytest.raises(ValueError, match="Train on whole images"):
        HarmoFL().check(DataFormat(form.classes, 3, (64, 64), patches=True))


@pytest.mark.parametrize("arguments", [{"alpha": -1.0}, {"window": 0.5}, {"min_images": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        HarmoFL(**arguments).validate()
