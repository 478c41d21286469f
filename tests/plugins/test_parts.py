"""Parts of a network by the names and shapes of their parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlight.plugins.parts import named, of_normalisation

LAYERS = nn.ModuleDict(
    {
        "conv": nn.Conv2d(3, 4, 3),
        "batch": nn.BatchNorm2d(4),
        "group": nn.GroupNorm(2, 4),
        "layer": nn.LayerNorm(4),
        "instance": nn.InstanceNorm2d(4, affine=True),
        "linear": nn.Linear(4, 1),
        "single": nn.Conv2d(1, 1, 1),
        "act": nn.PReLU(4),
        "up": nn.ConvTranspose2d(4, 4, 2),
    }
)


def test_norm_layers_are_found_and_nothing_else() -> None:
    found = {name.split(".")[0] for name in of_normalisation(dict(LAYERS.named_parameters()))}
    assert found == {"batch", "group", "layer", "instance"}


def test_a_layer_without_a_name_is_found_too() -> None:
    assert of_normalisation(dict(nn.GroupNorm(1, 2).named_parameters())) == ["weight", "bias"]


def test_patterns_pick_by_name() -> None:
    params = dict(LAYERS.named_parameters())
    assert named(params, [r"^linear\.", "^up.*bias"]) == ["linear.weight", "linear.bias", "up.bias"]
    assert named(params, []) == []


@pytest.mark.parametrize(("pattern", "message"), [("nowhere", "must be found"), ("(", "must be regular expressions")])
def test_a_pattern_that_picks_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named({"weight": torch.zeros(1)}, [pattern])
