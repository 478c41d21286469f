"""Ranks and quantiles over valid places only."""

from __future__ import annotations

import torch

from fedlight.plugins.ranks import quantiles_of, read, sort_valid


def test_values_are_sorted_with_what_is_not_valid_behind() -> None:
    """Of 4, 0, 9, 0 the third is not valid; equal values stay in order."""
    values, places = sort_valid(torch.tensor([[[4.0, 0.0, 9.0, 0.0]]]), torch.tensor([[[True, True, False, True]]]))
    assert values.flatten().tolist() == [0.0, 0.0, 4.0, torch.inf]
    assert places.flatten().tolist() == [1, 3, 0, 2]


def test_ranks_between_values_are_read_on_straight_lines() -> None:
    """Three quarters of the way from 10 to 20 is 17.5; a whole rank does not look at the infinity behind it."""
    ordered = torch.tensor([[[10.0, 20.0, torch.inf], [1.0, 2.0, torch.inf]]])
    assert read(ordered, torch.tensor([[[0.75, 1.0]]])).tolist() == [[[17.5, 20.0], [1.75, 2.0]]]


def test_quantiles_are_those_of_valid_places() -> None:
    """Of 4, 0, 2, 1 the levels 0, 1/2 and 1 are 0, (1 + 2) / 2 and 4; a fifth place, 99, is not valid."""
    x = torch.tensor([[[[4.0, 0.0, 2.0, 1.0, 99.0]]]])
    valid = torch.tensor([[[True, True, True, True, False]]])
    assert quantiles_of(x, valid, 3).flatten().tolist() == [0.0, 1.5, 4.0]


def test_a_field_of_view_that_the_grid_would_miss_is_seen() -> None:
    """64 x 64 places are sorted on a grid of every third; of them only the one in row and column 1 is valid."""
    x, valid = torch.zeros(1, 1, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
    x[..., 1, 1], valid[:, 1, 1] = 7.0, True
    assert quantiles_of(x, valid, 2).flatten().tolist() == [7.0, 7.0]
