"""FedSAM: the perturbation, the step from the original parameters, and what both passes see."""

from __future__ import annotations

import pytest
import torch
from fedlight_algorithms import FedAvg, FedProx, FedSAM, MixStyle
from torch import Tensor

from fedlight.plugins.sharpness import sam_perturbation
from fedlight.preparation import ConfigError, prototypes
from fedlight.state import State, digest, parameters_of
from tests.contracts.harness import Clinic, images_of, pick, second_round, task


def test_perturbation_has_one_norm_over_all_tensors() -> None:
    """Gradients 3 and 4 in two tensors have norm 5; rho 0.5 gives 0.3 and 0.4."""
    eps = sam_perturbation([torch.tensor([3.0]), torch.tensor([4.0])], 0.5)
    assert [value.item() for value in eps] == pytest.approx([0.3, 0.4])


def test_no_gradient_gives_no_perturbation() -> None:
    assert sam_perturbation([torch.zeros(2)], 0.5)[0].tolist() == [0, 0]


def test_step_on_a_quadratic_starts_at_the_original_parameters() -> None:
    """F = (w1^2 + w2^2) / 2 at (3, 4): g = w, eps = 0.5 g / 5 = (0.3, 0.4), so the gradient is (3.3, 4.4).

    A step of 0.1 from (3, 4) leads to (2.67, 3.56).
    """
    plugin = FedSAM(rho=0.5)
    w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    plugin._params, plugin._origin = [w], []

    def objective() -> Tensor:
        return w.square().sum() / 2

    torch.autograd.backward(plugin.descend(objective(), objective))
    plugin._return()
    assert w.grad is not None
    assert w.tolist() == [3.0, 4.0]
    torch.testing.assert_close(w.grad, torch.tensor([3.3, 4.4]))
    torch.testing.assert_close(w.detach() - 0.1 * w.grad, torch.tensor([2.67, 3.56]))


def by_hand(rho: float) -> State:
    """One round of SAM at site A of the harness with nothing but autograd: two batches, SGD with rate 0.1."""
    module = task()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    params = list(module.parameters())
    for rows in (range(3), range(3, 6)):
        batch = pick(images_of("A", 6), rows)

        def loss(batch=batch) -> Tensor:  # type: ignore[no-untyped-def]
            value: Tensor = module.criterion(module(batch["image"]), batch["mask"], batch["valid"])
            return value

        start = [p.detach().clone() for p in params]
        first = torch.autograd.grad(loss(), params)
        norm = torch.cat([g.flatten() for g in first]).norm()
        with torch.no_grad():
            for p, g in zip(params, first, strict=True):
                p.add_(rho * g / norm)
        second = torch.autograd.grad(loss(), params)
        with torch.no_grad():
            for p, w, g in zip(params, start, second, strict=True):
                p.copy_(w - 0.1 * g)
    return parameters_of(module)


def test_a_round_is_sam_and_nothing_else() -> None:
    clinic = Clinic.of(FedAvg(), [FedSAM(rho=0.5)])
    update, expected = clinic.fit("A", clinic.broadcast()), by_hand(0.5)
    for name, value in update.params.items():
        torch.testing.assert_close(value, expected[name])


def test_both_passes_see_the_same_style_and_every_penalty() -> None:
    """With a ball too small to matter the gradient is that of the plain step, also where batches are mixed at random.

    If the second pass drew styles of its own, its gradient would be another.
    """
    others = [MixStyle(p=1.0), FedProx(mu=0.1)]
    plain = Clinic.of(FedAvg(), others).play(2).server.params
    sharp = Clinic.of(FedAvg(), [FedSAM(rho=1e-7), *others]).play(2).server.params
    for name, value in sharp.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-5)


def test_parameters_come_back_bit_for_bit_even_if_a_round_breaks_off() -> None:
    plugin = FedSAM(rho=0.5)
    with second_round(plugin) as module:
        before = digest(parameters_of(module))
        module.training_step(images_of("A"), 0)
        assert digest(parameters_of(module)) != before
        plugin.on_round_end(module)
        assert digest(parameters_of(module)) == before


def test_loss_is_reported_once_and_at_the_model() -> None:
    """The reported loss of the first step is FedAvg's: with one batch a round, that of the whole round."""
    reported = []
    for plugins in ([], [FedSAM(rho=0.5)]):
        clinic = Clinic.of(FedAvg(), plugins)
        clinic.clients["A"].data.cases = 3  # type: ignore[attr-defined]
        reported.append(clinic.fit("A", clinic.broadcast()).metrics["train_loss"])
    assert reported[0] == reported[1]


def test_two_that_move_the_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most one that takes the gradient at other parameters, got FedSAM, FedS"):
        prototypes(FedAvg(), [FedSAM(), FedSAM()])


def test_negative_rho_is_refused() -> None:
    with pytest.raises(ValueError, match="rho must not be negative, got -1"):
        FedSAM(rho=-1).validate()
