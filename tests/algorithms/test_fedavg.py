"""FedAvg against a hand computation."""

from __future__ import annotations

import torch
from fedlight_algorithms import FedAvg

from tests.contracts.harness import aggregate, context_of


def test_mean_is_weighted_by_training_cases() -> None:
    """(1 * 1 + 3 * 5) / 4 = 4 and (1 * 2 + 3 * (-2)) / 4 = -1."""
    updates = {"A": {"w": torch.tensor([1.0, 2.0])}, "B": {"w": torch.tensor([5.0, -2.0])}}
    result = aggregate(FedAvg(), context_of(("A", "B"), A=1, B=3), {"w": torch.zeros(2)}, updates)
    assert result["w"].tolist() == [4.0, -1.0]


def test_uniform_weights_give_the_plain_mean() -> None:
    """(1 + 5) / 2 = 3."""
    updates = {"A": {"w": torch.tensor(1.0)}, "B": {"w": torch.tensor(5.0)}}
    assert aggregate(FedAvg(), context_of(("A", "B"), A=1, B=1), {"w": torch.tensor(0.0)}, updates)["w"] == 3


def test_sum_is_taken_in_double_precision() -> None:
    """2^24 + 1 is no float32; summed there, three ones after 2^24 would be lost: (2^24 + 3) / 4 = 4194304.75."""
    values = {"A": 2.0**24, "B": 1.0, "C": 1.0, "D": 1.0}
    updates = {site: {"w": torch.tensor(value)} for site, value in values.items()}
    context = context_of(tuple(values), A=1, B=1, C=1, D=1)
    result = aggregate(FedAvg(), context, {"w": torch.tensor(0.0)}, updates)["w"]
    assert result == torch.tensor(4194304.75)
    assert result.dtype == torch.float32
