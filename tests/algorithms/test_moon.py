"""MOON: the contrast by hand, whose model is whose, and what is left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import MOON, FedAvg
from fedlight_algorithms.moon import contrast

from fedlight.state import digest, parameters_of
from tests.contracts.harness import Clinic, images_of, second_round


def test_contrast_is_a_softmax_of_two_cosines() -> None:
    """Z = (1, 0); z_glob = (3, 3) has cosine 1/sqrt 2, z_prev = (0, 2) has 0; tau 0.5: log(1 + e^-sqrt 2).

    The second image has z_glob = -z and z_prev = z: log(1 + e^4).
    """
    z = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    z_round, z_last = torch.tensor([[3.0, 3.0], [0.0, -1.0]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]])
    expected = (math.log(1 + math.exp(-math.sqrt(2))) + math.log(1 + math.exp(4))) / 2
    assert contrast(z, z_round, z_last, 0.5).item() == pytest.approx(expected)


def test_contrast_pulls_to_the_round_and_pushes_from_the_last() -> None:
    z = torch.tensor([[1.0, 1.0]], requires_grad=True)
    torch.autograd.backward(contrast(z, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5))
    assert z.grad is not None
    assert z.grad[0, 0] < 0 < z.grad[0, 1]


def test_the_last_model_is_what_the_site_ended_its_round_with() -> None:
    clinic = Clinic.of(FedAvg(), [MOON()])
    update = clinic.fit("A", clinic.broadcast())
    (plugin,) = clinic.clients["A"].plugins
    assert digest(plugin.state_dict()["last"]) == digest(update.params)


def test_first_round_has_no_penalty_and_equal_models_give_log_2() -> None:
    """With w = w_glob and z_prev of another model it is not log 2; with z_prev of the same model it is."""
    clinic = Clinic.of(FedAvg(), [MOON()])
    assert "MOON/penalty" not in clinic.fit("A", clinic.broadcast()).metrics
    plugin = MOON(mu=3.0)
    with second_round(plugin) as module:
        plugin._last = parameters_of(module)
        total = module.training_step(images_of("A"), 0)
        plugin.mu = 0.0
        supervised = module.training_step(images_of("A"), 0)
    assert (total - supervised).item() == pytest.approx(3 * math.log(2), rel=1e-5)


def test_gradient_reaches_the_layers_up_to_the_stage_and_no_others() -> None:
    plugin = MOON()
    with second_round(plugin) as module:
        plugin._last = {name: value + 0.1 * torch.ones_like(value) for name, value in parameters_of(module).items()}
        total = module.training_step(images_of("A"), 0)
        plugin.mu = 0.0
        torch.autograd.backward(total - module.training_step(images_of("A"), 0))
        reached = {name for name, p in module.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    # the positive pair is the same model, whose cosine has no slope; the negative pair has one
    assert {name.split(".")[1] for name in reached} == {"encoder1", "encoder2", "bottleneck"}


@pytest.mark.parametrize("arguments", [{"mu": -1.0}, {"tau": 0.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        MOON(**arguments).validate()
