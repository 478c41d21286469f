"""The attacks on cases whose outcome is known by construction."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlight.audit.attacked import CONTROL, MARGIN, MEAN, Attacked, verdict
from fedlight.audit.control import control
from fedlight.audit.inversion import Attacker, cosine_distance, invert, total_variation
from fedlight.audit.leaks import gradients_of
from fedlight.audit.membership import area, infer, power
from fedlight.audit.protected import masked, noised, released, trained
from fedlight.audit.rounded import rounded
from fedlight.audit.similarity import Likeness, best_match, likeness
from fedlight.audit.spectra import whole_amplitude, window_image
from fedlight.federation import Federation
from fedlight.plugins.discovery import find
from fedlight.preparation import ConfigError
from fedlight.privacy.example_level import ExampleLevel
from fedlight.randomness import seeded
from fedlight.secure_aggregation import SecureAggregation
from tests.conftest import small_sites, small_task


def linear(weight: Tensor) -> Callable[[Tensor], Sequence[Tensor]]:
    """Of the loss (w x + b - 1)^2 / 2 at b = 0 the gradient is (w x - 1) x and, by the bias, w x - 1."""

    def gradients(images: Tensor) -> Sequence[Tensor]:
        error = images.flatten() @ weight - 1
        return error * images.flatten(), error[None]

    return gradients


# --- inversion -------------------------------------------------------------------------------------------------------


def test_the_gradient_of_a_linear_network_gives_the_image_away() -> None:
    """The gradient of the weights is a multiple of the image, and that of the bias is the factor."""
    draw = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 1, 8, 8, generator=draw)
    gradients = linear(torch.randn(64, generator=draw) - 1)  # the error keeps its sign over all images
    observed = gradients(truth)
    guess = invert(gradients, observed, truth.shape, (0.0, 1.0), Attacker(400, 1, tv=0.0), draw)
    assert likeness(guess.images[0], truth[0]).psnr > 30
    noise = noised(observed, 1.0, 1.0, 0)
    blurred = invert(gradients, noise, truth.shape, (0.0, 1.0), Attacker(400, 1, tv=0.0), draw)
    assert likeness(blurred.images[0], truth[0]).psnr < 15
    assert guess.misfit < 1e-3


def test_equal_seeds_find_equal_images() -> None:
    gradients = linear(-torch.ones(64))
    observed = gradients(torch.full((1, 1, 8, 8), 0.3))
    draws = (torch.Generator().manual_seed(1) for _ in range(2))
    first, second = (invert(gradients, observed, (1, 1, 8, 8), (0.0, 1.0), Attacker(5), draw) for draw in draws)
    assert torch.equal(first.images, second.images)


def test_the_attack_succeeds_on_a_small_network_whatever_the_image() -> None:
    """The control, without which a failure elsewhere would mean nothing: far above the mean image and a constant."""
    images = next(iter(small_sites_ready().train_loader("site1", seed=0)))["image"]
    truth, mean = images[0], images[1:].mean(0)
    gradients = control(truth, seed=0)
    for guess in (None, mean):
        draw = torch.Generator().manual_seed(0)
        found = invert(gradients, gradients(images[:1]), (1, *truth.shape), (0.0, 1.0), Attacker(300, 1), draw, guess)
        reached = likeness(found.images[0], truth).psnr
        assert reached > max(likeness(mean, truth).psnr, likeness(truth.mean().expand_as(truth), truth).psnr) + 5


def small_sites_ready() -> Any:
    data = small_sites()
    data.prepare()
    return data


def built_task() -> tuple[Any, Any]:
    """A task with its network, and a batch of two images."""
    data, task = small_sites_ready(), small_task()
    task.bind(data.format)
    with seeded(0, "initial weights"):
        task.configure_model()
    return task, next(iter(data.train_loader("site1", seed=0)))


def test_a_network_with_rounded_corners_has_nearly_the_same_gradient() -> None:
    task, batch = built_task()
    labels = batch["mask"], batch["valid"]
    true, smooth = (gradients_of(each, *labels)(batch["image"]) for each in (task, rounded(task)))
    assert float(cosine_distance(true, smooth)) < 0.15
    assert any(isinstance(layer, torch.nn.ReLU) for layer in task.network.modules())


# --- protections -----------------------------------------------------------------------------------------------------


def test_a_masked_vector_says_nothing_of_what_is_in_it() -> None:
    """Its numbers are uniform below 2^64: of correlation 0, with a spread of 1 / sqrt(10000) = 0.01."""
    seen = [torch.linspace(-1, 1, 10_000)]
    (read,) = masked(seen, SecureAggregation(), 3)
    assert abs(float(torch.corrcoef(torch.stack([seen[0], read]))[0, 1])) < 0.05


def test_a_released_model_has_the_change_shortened_to_the_bound() -> None:
    """Without noise: 3 and 4 are shortened from length 5 to 1; of one site that is the mean."""
    task, _ = built_task()
    change = [torch.zeros_like(p) for p in task.parameters()]
    change[0].view(-1)[:2] = torch.tensor([3.0, 4.0])
    aggregator: Any = find("DPFedAvg").cls
    seen = released(task, change, aggregator(noise=0.0, clip=1.0), ("site1",), 0)
    torch.testing.assert_close(seen[0].view(-1)[:3], torch.tensor([0.6, 0.8, 0.0]), atol=1e-5, rtol=0)


def test_local_steps_leave_the_model_as_it_was_and_one_of_sgd_is_its_gradient() -> None:
    """Momentum does nothing in the first step, so the change is the learning rate 0.1 times the gradient."""
    task, batch = built_task()
    (gradient, *_) = gradients_of(task, batch["mask"], batch["valid"])(batch["image"])
    (change, *_) = trained(task, batch, 1)
    torch.testing.assert_close(change, 0.1 * gradient, atol=1e-6, rtol=1e-3)


def test_a_verdict_says_that_failure_is_no_proof_and_that_a_failed_control_means_nothing() -> None:
    def row(name: str, beats: bool | None, own: bool = False) -> Attacked:
        return Attacked(name, "", Likeness(20.0 + MARGIN, 0.5), torch.zeros(1, 1, 1), beats=beats, own=own)

    resisted = verdict([row(MEAN, None), row(CONTROL, True), row("own round", False, own=True)])
    assert "did not beat the mean image. This is not a proof of safety." in resisted[1]
    given = verdict([row(MEAN, None), row(CONTROL, False), row("own round", True, own=True)])
    assert "mean nothing" in given[0]
    assert "own round): images leak" in given[1]


def test_the_distance_of_gradients_is_of_their_directions() -> None:
    """Along each other 0, at a right angle 1, opposed 2."""
    one = [torch.tensor([1.0, 0.0]), torch.tensor([0.0])]
    for other, distance in (([3.0, 0.0], 0.0), ([0.0, 2.0], 1.0), ([-1.0, 0.0], 2.0)):
        assert float(cosine_distance(one, [torch.tensor(other), torch.tensor([0.0])])) == pytest.approx(distance)


def test_total_variation_by_hand() -> None:
    """Rows 0 0 and 1 1: neighbours above each other differ by 1, beside each other by 0."""
    assert float(total_variation(torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]]))) == 1.0


# --- how like two images are -----------------------------------------------------------------------------------------


def test_psnr_by_hand() -> None:
    """The range is 2 and every pixel is wrong by 0.2: 10 log10(4 / 0.04) = 20 dB."""
    truth = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    assert likeness(truth + 0.2, truth).psnr == pytest.approx(20, abs=1e-4)
    assert likeness(truth, truth).ssim == pytest.approx(1, abs=1e-5)
    assert best_match(truth + 0.2, torch.stack([-truth, truth])).psnr == pytest.approx(20, abs=1e-4)


# --- membership ------------------------------------------------------------------------------------------------------


def test_the_area_of_four_losses_by_hand() -> None:
    """Members 1 and 3, others 2 and 4: of the pairs (1,2) (1,4) (3,2) (3,4) the member is lower in three."""
    assert area(np.array([1.0, 3.0]), np.array([2.0, 4.0])) == 0.75


def test_members_that_are_all_known_better_are_all_found() -> None:
    found = infer([0.1, 0.2, 0.3], [0.5, 0.6], seed=0)
    assert (found.auc, found.low, found.high, found.power) == (1.0, 1.0, 1.0, 1.0)


def test_losses_that_are_alike_are_a_coin() -> None:
    found = infer([0.5] * 4, [0.5] * 4, seed=0)
    assert (found.auc, found.power) == (0.5, 0.0)


def test_few_false_alarms_are_allowed_by_their_number() -> None:
    """Of ten others one may be below: the threshold is the second lowest loss, 2; two of three members are below."""
    assert power(np.array([0.0, 1.5, 5.0]), np.arange(1.0, 11.0), 0.1) == pytest.approx(2 / 3)


# --- amplitudes ------------------------------------------------------------------------------------------------------


def test_all_amplitudes_with_the_true_phase_are_the_image() -> None:
    """But for the highest frequency of an even side, of which this image has nothing."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    image = (2 + torch.cos(2 * torch.pi * (2 * y + 3 * x) / 16))[None]
    torch.testing.assert_close(window_image(whole_amplitude(image), (16, 16), image), image, atol=1e-4, rtol=0)


def test_a_window_of_the_mean_alone_is_a_constant_image() -> None:
    amplitude = torch.zeros(1, 3, 2)
    amplitude[0, 1, 0] = 0.7  # k = 0
    torch.testing.assert_close(window_image(amplitude, (8, 8)), torch.full((1, 8, 8), 0.7))


# --- the whole audit -------------------------------------------------------------------------------------------------


def test_an_audit_leaves_a_page_numbers_and_pictures_and_repeats_itself(
    federate: Callable[..., Federation], tmp_path: Path
) -> None:
    federation = federate(rounds=1)
    folder = str(federation.fit(small_task(), small_sites()).path)
    for name in ("once", "again"):
        federation.audit(small_task(), small_sites(), str(tmp_path / name), steps=2, size=16, ckpt_path=folder)
    numbers = json.loads((tmp_path / "once" / "audit.json").read_text())
    assert numbers == json.loads((tmp_path / "again" / "audit.json").read_text())
    assert [row["case"] for row in numbers["inversion"]] == [
        "mean image", "best constant", "control: small network", "one image, one step", "supposed, noise 0.1",
        "own round, plain",
    ]  # fmt: skip
    assert set(numbers["membership"]) == {"site1", "site2", "site3", "all sites"}
    assert "data:image/png;base64," in (tmp_path / "once" / "audit.html").read_text()
    assert {path.name for path in (tmp_path / "once").glob("*.png")} == {"inversion.png", "statistics.png"}
    with pytest.raises(ConfigError, match="site must be one of site1, site2, site3, got site9"):
        federation.audit(small_task(), small_sites(), str(tmp_path / "no"), site="site9", ckpt_path=folder)


def test_an_audit_attacks_what_the_runs_own_protections_leave(
    federate: Callable[..., Federation], tmp_path: Path
) -> None:
    private = ExampleLevel(epsilon=None, noise=1.0, delta=1e-3)
    for name, changes, cases in (
        ("dp", {"example_privacy": private}, ["one image, one step, DP-SGD", "own round, plain", "own round, DP-SGD"]),
        ("sum", {"secure_aggregation": SecureAggregation()}, ["own round, masked", "own round, sum of sites"]),
        ("codec", {"uplink": [find("TopK").cls()]}, ["one image, one step, codecs", "own round, codecs"]),
    ):
        federation = federate(rounds=1, run_folder=str(tmp_path / name), **changes)
        task = partial(small_task, batch_dice=name != "dp")
        folder = str(federation.fit(task(), small_sites()).path)
        page = federation.audit(
            task(), small_sites(), str(tmp_path / "out"), steps=1, restarts=1, size=16, ckpt_path=folder
        )
        found = [row["case"] for row in page.facts["inversion"]]
        assert set(cases) <= set(found)
        assert ("supposed, noise 0.1" in found) == (name != "dp")
