"""StyleExploration: the extrapolation and where it starts from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import StyleExploration
from fedlight_algorithms.style_exploration import explore

from tests.algorithms.banks import begun, flat_batch, restyled, style


def test_styles_move_away_from_the_centre() -> None:
    """From a centre of mu 2, sigma 2 with alpha 3: mu 5 goes to 5 + 3 * 3 = 14, sigma 1 to 1 - 3, stopped at 0."""
    moved = explore(torch.tensor([[[5.0], [1.0]]]), torch.tensor([[2.0], [2.0]]), 3.0)
    assert moved.flatten().tolist() == [14.0, 0.0]


def test_the_centre_and_a_zero_alpha_stay() -> None:
    center = torch.tensor([[2.0], [2.0]])
    assert torch.equal(explore(center[None], center, 3.0)[0], center)
    assert explore(torch.tensor([[[5.0], [1.0]]]), center, 0.0).flatten().tolist() == [5.0, 1.0]


def test_an_image_keeps_its_style_or_takes_another_and_moves_on() -> None:
    """The centre of A (1, 1) and B (5, 3) is (3, 2).

    Alpha 1 takes the image's own style (1, 1) to (-1, 0), which is flat, and B's to (7, 4): (0, 2) becomes (3, 11).
    """
    bank = {"A/input": style(1, 1), "B/input": style(5, 3)}
    plugin = begun(StyleExploration(p=1, stages=["input"]), bank)
    styled = restyled(plugin, flat_batch([[0.0, 2.0]] * 64)).flatten(1)
    found = {tuple(round(value, 1) + 0.0 for value in image) for image in styled.tolist()}
    assert found == {(-1.0, -1.0), (3.0, 11.0)}


def test_half_of_the_images_take_another_style() -> None:
    """Of 400 images, 200 on average; five standard deviations are 50."""
    bank = {"A/input": style(1, 1), "B/input": style(5, 3)}
    plugin = begun(StyleExploration(p=1, alpha=0, stages=["input"]), bank)
    styled = restyled(plugin, flat_batch([[0.0, 2.0]] * 400)).flatten(1)
    assert 150 < int((styled.mean(1) > 4).sum()) < 250


@pytest.mark.parametrize(
    "arguments", [{"p": 2.0}, {"alpha": -1.0}, {"min_images": 0}, {"stages": ["input", "encoder1"]}], ids=str
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        StyleExploration(**arguments).validate()
