"""Claims about the predictive entropy and what is made of it."""

from __future__ import annotations

import pytest
import torch

from fedlight.tasks.overlay import as_colours
from fedlight.tasks.uncertainty import HEAT, draw_heat, entropy, grey_levels, mean_entropies


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_entropy_is_0_where_a_class_is_certain_and_1_where_all_are_alike(classes: int) -> None:
    certain = torch.nn.functional.one_hot(torch.tensor([0, classes - 1]), classes).float()  # (2, K)
    alike = torch.full((1, classes), 1 / classes)
    chances = torch.cat([certain, alike]).T[None, :, None]  # (1, K, 1, 3)
    torch.testing.assert_close(entropy(chances)[0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_entropy_of_a_quarter_and_three() -> None:
    """In bits, 0.25 * 2 + 0.75 * (2 - log2 3) = 0.8113."""
    assert float(entropy(torch.tensor([0.25, 0.75]).view(1, 2, 1, 1))) == pytest.approx(0.811278)


def test_means_are_over_what_counts_and_over_every_structure() -> None:
    """Of four pixels the last does not count: (0.5 + 1 + 0) / 3; the disc has the first two, the cup none."""
    uncertain = torch.tensor([[[0.5, 1.0, 0.0, 0.75]]])
    labels = torch.tensor([[[1, 1, 0, 2]]])
    valid = torch.tensor([[[True, True, True, False]]])
    means = mean_entropies(uncertain, labels, valid, ("background", "disc", "cup"))
    assert means == {"entropy": 0.5, "entropy/disc": 0.75, "entropy/cup": ""}


def test_grey_levels_use_16_bits() -> None:
    levels = grey_levels(torch.tensor([[0.0, 0.5, 1.0]]))
    assert levels.dtype == "uint16"
    assert levels.tolist() == [[0, 32768, 65535]]


def test_heat_covers_what_is_uncertain_and_leaves_the_rest() -> None:
    image = torch.linspace(0, 1, 16).view(1, 4, 4)
    uncertain = torch.zeros(4, 4)
    uncertain[0, 0] = 1
    picture = draw_heat(image, uncertain)
    assert tuple(picture[0, 0]) == HEAT
    plain = as_colours(image).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (picture.reshape(16, 3)[1:] == plain.reshape(16, 3)[1:]).all()
