"""How much predictions on several views of an image disagree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedlight.plugins.consistency import disagreement

ALL = torch.ones(1, 1, 1, dtype=torch.bool)


def logit(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def test_equal_predictions_do_not_disagree() -> None:
    assert disagreement([logit(0.7)] * 3, ALL).item() == pytest.approx(0, abs=1e-6)


def test_certain_predictions_disagree_by_the_entropy_of_their_mean() -> None:
    """Two of three say foreground: the mean is (1/3, 2/3), so (2 log 3/2 + log 3) / 3."""
    expected = (2 * math.log(1.5) + math.log(3)) / 3
    assert disagreement([logit(60.0), logit(60.0), logit(-60.0)], ALL).item() == pytest.approx(expected)


def test_one_logit_is_as_good_as_two() -> None:
    two = [torch.cat([torch.zeros(1, 1, 1, 1), logit(value)], 1) for value in (0.3, -1.2)]
    torch.testing.assert_close(disagreement(two, ALL), disagreement([logit(0.3), logit(-1.2)], ALL))


def test_only_valid_pixels_count() -> None:
    first, second = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 60.0]]]])
    assert disagreement([first, second], torch.tensor([[[True, False]]])) == 0
    assert disagreement([first, second], torch.tensor([[[False, True]]])) > 0.1
    assert disagreement([first, second], torch.tensor([[[False, False]]])) == 0


def test_its_gradient_is_finite_where_predictions_are_certain() -> None:
    logits = [torch.tensor([[[[value]]], [[[value]]]], requires_grad=True) for value in (200.0, -200.0, 0.0)]
    torch.autograd.backward(disagreement(logits, ALL.expand(2, 1, 1)))
    assert all(bool(each.grad.isfinite().all()) for each in logits if each.grad is not None)
    assert logits[2].grad is not None
