"""FedSR: the divergence by hand, what is learned beside the network, and where the noise is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, FedSR
from fedlight_algorithms.fedsr import divergence

from fedlight.state import num_bytes
from tests.contracts.harness import Clinic, images_of, second_round


def test_divergence_of_two_normal_distributions() -> None:
    """KL(N(1, 2^2) || N(0, 1)) = log(1 / 2) + (4 + 1) / 2 - 1 / 2; the second channel is equal and adds 0."""
    mean, sigma = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.tensor([2.0, 0.5]).view(1, 2, 1, 1)
    found = divergence(mean, sigma, torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.5]))
    assert found.item() == pytest.approx(2 - math.log(2))


def test_divergence_is_torchs() -> None:
    draw = torch.Generator().manual_seed(0)
    mean, sigma = torch.randn(2, 3, 4, 5, generator=draw), torch.rand(2, 3, 4, 5, generator=draw) + 0.1
    r, s = torch.randn(3, generator=draw), torch.rand(3, generator=draw) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, sigma), torch.distributions.Normal(r[:, None, None], s[:, None, None])
    )
    torch.testing.assert_close(divergence(mean, sigma, r, s), expected.sum(1))


@pytest.mark.parametrize(("variant", "expected"), [("paper", 25.0), ("released", 5.0)])
def test_length_is_squared_in_the_paper_only(variant: Any, expected: float) -> None:
    """Every latent is (3, 4): 25 squared, 5 as a length, whatever the classes."""
    plugin = FedSR(alpha_l2=1.0, alpha_cmi=0.0, variant=variant)
    with second_round(plugin) as module:
        batch = images_of("A")
        z = torch.zeros(4, 6, 8, 8)
        z[:, 0], z[:, 1] = 3.0, 4.0
        plugin._latent = z, z, torch.ones_like(z)
        from fedlight.batch import Step

        step = Step(batch["image"], batch["mask"], batch["valid"], torch.zeros(4, 1, 16, 16), {}, z, module.criterion,
                    module._plain_pass)  # fmt: skip
        found = plugin.penalty(step)
    assert found is not None
    assert found.item() == pytest.approx(expected)


def test_noise_is_in_training_passes_only() -> None:
    with second_round(FedSR()) as module:
        batch = images_of("A")
        plain = module(batch["image"])
        assert torch.equal(plain, module(batch["image"]))
        module._batch = batch
        assert not torch.equal(plain, module(batch["image"]))


def test_what_is_learned_moves_with_the_network_and_is_averaged() -> None:
    """After a round the class means have left 0 at every site, and the server has their weighted mean."""
    clinic = Clinic.of(FedAvg(), [FedSR(alpha_cmi=0.1)])
    updates = {site: clinic.fit(site, clinic.broadcast()).shared["FedSR"] for site in "ABC"}
    assert all(bool((update["class/mean"] != 0).any()) for update in updates.values())
    clinic = Clinic.of(FedAvg(), [FedSR(alpha_cmi=0.1)]).play(1)
    weights = {"A": 1, "B": 2, "C": 3}
    expected = sum(weights[site] * update["class/mean"].double() for site, update in updates.items()) / 6
    torch.testing.assert_close(clinic.broadcast().shared["FedSR"]["class/mean"], expected.float())  # type: ignore[union-attr]


def test_the_next_round_goes_on_from_the_mean() -> None:
    clinic = Clinic.of(FedAvg(), [FedSR()]).play(1)
    plugin = clinic.clients["A"].plugins[0]
    assert isinstance(plugin, FedSR)
    broadcast = clinic.broadcast()
    plugin.on_round_start("A", clinic.clients["A"].module, broadcast)
    held = plugin._parameter("class/mean", torch.zeros(2, 6), torch.zeros(1))
    assert torch.equal(held.detach(), broadcast.shared["FedSR"]["class/mean"])


def test_the_learning_rate_of_the_round_is_used() -> None:
    plugin = FedSR()
    plugin._start, plugin._learned = {}, {}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    optimizer.param_groups[0]["lr"] = 0.25
    plugin.wrap_optimizer(optimizer)
    held = plugin._parameter("x", torch.zeros(1), torch.zeros(1))
    assert optimizer.param_groups[1]["lr"] == 0.25
    assert optimizer.param_groups[1]["params"][0] is held


def test_bytes_are_those_of_the_card() -> None:
    """Six channels, two classes: 4 (36 + 6 + 2 * 2 * 6) bytes."""
    clinic = Clinic.of(FedAvg(), [FedSR()])
    assert num_bytes(dict(clinic.fit("A", clinic.broadcast()).shared["FedSR"])) == 264


def test_gradient_reaches_network_and_what_is_learned() -> None:
    plugin = FedSR()
    with second_round(plugin) as module:
        torch.autograd.backward(module.training_step(images_of("A"), 0))
        assert all(p.grad is not None for p in module.parameters())
        assert set(plugin._learned) == {"sigma/weight", "sigma/bias", "class/mean", "class/spread"}
        assert all(value.grad is not None and bool((value.grad != 0).any()) for value in plugin._learned.values())


@pytest.mark.parametrize("arguments", [{"alpha_l2": -1.0}, {"alpha_cmi": -1.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must not be negative"):
        FedSR(**arguments).validate()
