"""FedASAM: the perturbation that follows the size of the weights."""

from __future__ import annotations

import math

import pytest
import torch
from fedlight_algorithms import FedASAM
from fedlight_algorithms.fedasam import asam_perturbation
from torch import nn


def test_perturbation_is_scaled_by_the_size_of_the_weights() -> None:
    """W = (1, -3), g = (2, 1), eta 1: T = (2, 4), T g = (4, 4) of norm 4 sqrt 2, T^2 g = (8, 16).

    With rho = sqrt 2, eps = (8, 16) / 4 = (2, 4).
    """
    w, g = torch.tensor([1.0, -3.0]), torch.tensor([2.0, 1.0])
    (eps,) = asam_perturbation([w], [g], math.sqrt(2), 1.0, [True])
    torch.testing.assert_close(eps, torch.tensor([2.0, 4.0]))


def test_what_is_not_scaled_moves_as_in_sam() -> None:
    """T = 1 for the second tensor: T g = (2 * 2, 3) = (4, 3) of norm 5; eps = rho (2 * 4, 3) / 5 = (1.6, 0.6)."""
    params, gradients = [torch.tensor([1.0]), torch.tensor([9.0])], [torch.tensor([2.0]), torch.tensor([3.0])]
    eps = asam_perturbation(params, gradients, 1.0, 1.0, [True, False])
    assert [value.item() for value in eps] == pytest.approx([1.6, 0.6])


def test_released_code_scales_only_weights() -> None:
    """Weight 1, bias 1, gradients 1, eta 1. Paper: T = 2 for both, eps = 4 / sqrt 8. Released: (4, 1) / sqrt 5."""
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    found = {}
    for variant in ("paper", "released"):
        plugin = FedASAM(rho=1.0, eta=1.0, variant=variant)
        plugin._names = [name for name, _ in layer.named_parameters()]
        eps = plugin.perturbation(list(layer.parameters()), [torch.ones(1, 1), torch.ones(1)])
        found[variant] = [value.item() for value in eps]
    assert found["paper"] == pytest.approx([math.sqrt(2), math.sqrt(2)])
    assert found["released"] == pytest.approx([4 / math.sqrt(5), 1 / math.sqrt(5)])


def test_quadratic_step() -> None:
    """F = (w1^2 + w2^2) / 2 at (1, 2), eta 0: T = w, T g = (1, 4), norm sqrt 17, T^2 g = (1, 8).

    With rho = sqrt 17 eps = (1, 8), and the gradient at w + eps is (2, 10).
    """
    w = torch.tensor([1.0, 2.0])
    (eps,) = asam_perturbation([w], [w], math.sqrt(17), 0.0, [True])
    torch.testing.assert_close(w + eps, torch.tensor([2.0, 10.0]))


def test_negative_eta_is_refused() -> None:
    with pytest.raises(ValueError, match="eta must not be negative, got -1"):
        FedASAM(eta=-1).validate()
