"""Prototypes: masked average pooling, the pull and the server's mean by hand; absent classes; gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, Prototypes
from fedlight_algorithms.prototypes import fuse, pull

from fedlight.plugins.class_features import class_weights, embeddings
from fedlight.state import num_bytes
from tests.contracts.harness import Clinic, context_of


def test_masked_average_pooling_at_the_resolution_of_the_mask() -> None:
    """Class 1 has the pixels 2 and 4, mean 3; class 0 has 1; the pixel 8 is not valid; class 2 is absent."""
    x = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 1, 4)
    masks, valid = torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[True, True, True, False]]])
    each, counts = embeddings(x, class_weights(masks, valid, 3, (1, 4)))
    assert each.flatten().tolist() == [1, 3, 0]
    assert counts.tolist() == [[1, 2, 0]]


def test_coarse_features_count_by_the_area_of_a_class() -> None:
    """Two places of two pixels with features 10 and 30; class 1 has one pixel of the first and both of the second.

    Its mean over pixels is (10 + 30 + 30) / 3.
    """
    x, masks = torch.tensor([10.0, 30.0]).view(1, 1, 1, 2), torch.tensor([[[0, 1, 1, 1]]])
    each, counts = embeddings(x, class_weights(masks, torch.ones(1, 1, 4, dtype=torch.bool), 2, (1, 2)))
    assert each.flatten().tolist() == pytest.approx([10, 70 / 3])
    assert counts.tolist() == [[1, 3]]


def test_prototypes_are_fused_by_counts() -> None:
    """Class 0: (2 * 1 + 6 * 5) / 8 = 4. Class 1 is only in the first, class 2 in none."""
    prototypes = torch.tensor([[[1.0], [7.0], [0.0]], [[5.0], [0.0], [0.0]]])
    mean, counts = fuse(prototypes, torch.tensor([[2.0, 3.0, 0.0], [6.0, 0.0, 0.0]]))
    assert (mean.flatten().tolist(), counts.tolist()) == ([4, 7, 0], [8, 3, 0])


def test_pull_is_contrast_plus_squared_distance() -> None:
    """Query (2, 0) of class 0, prototypes (1, 0) and (0, 3), tau 0.5: cosines 1 and 0, log(1 + e^-2); MSE 1 / 2."""
    query, prototypes = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    found = pull(query, torch.tensor([0]), prototypes, torch.tensor([True, True]), 0.5)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-2)) + 0.5)


def test_unknown_classes_are_not_contrasted_with() -> None:
    """One known class: no contrast, only the squared distance 1 / 2."""
    query, prototypes = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert pull(query, torch.tensor([0]), prototypes, torch.tensor([True, False]), 0.5).item() == 0.5


def test_a_class_that_no_site_saw_keeps_its_prototype() -> None:
    plugin = Prototypes()
    plugin.begin(context_of(), {"prototypes": torch.tensor([[1.0], [2.0]]), "counts": torch.tensor([5.0, 5.0])})
    plugin.add("A", 1, {"prototypes": torch.tensor([[3.0], [0.0]]), "counts": torch.tensor([4.0, 0.0])})
    finished = plugin.finish()
    assert finished["prototypes"].flatten().tolist() == [3, 2]
    assert finished["counts"].tolist() == [4, 5]


def test_bytes_are_those_of_the_card() -> None:
    """Two classes, six channels: 4 * 2 * (6 + 1) bytes."""
    clinic = Clinic.of(FedAvg(), [Prototypes()])
    assert num_bytes(dict(clinic.fit("A", clinic.broadcast()).shared["Prototypes"])) == 56


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"ramp": 1.5}, {"tau": 0.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        Prototypes(**arguments).validate()
