"""CCST: both variants, and that the one that gives away single images says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import CCST, FedAvg
from fedlight_algorithms.ccst import overall

from fedlight.state import num_bytes
from tests.algorithms.banks import begun, flat_batch, restyled
from tests.contracts.harness import SITES, Clinic


def test_the_overall_style_is_that_of_all_pixels_together() -> None:
    """(0, 2) and (4, 10): mu 1 and 7, sigma 1 and 3. Together mu 4, sigma^2 = (1 + 9) / 2 + 9 = 14.

    Directly: 0, 2, 4, 10 have mean 4 and squared deviations 16, 4, 0, 36, whose mean is 14.
    """
    styles = torch.tensor([[[1.0], [1.0]], [[7.0], [3.0]]])
    torch.testing.assert_close(overall(styles), torch.tensor([[4.0], [14.0**0.5]]))


def test_an_image_takes_on_the_overall_style() -> None:
    """(0, 2) has mu 1 and sigma 1; with mu 5 and sigma 3 it becomes (2, 8)."""
    plugin = begun(CCST(p=1), {"B/input": torch.tensor([[5.0], [3.0]])})
    torch.testing.assert_close(restyled(plugin, flat_batch([[0.0, 2.0]])).flatten(), torch.tensor([2.0, 8.0]))


def test_every_style_of_a_single_image_is_one_that_was_given_away() -> None:
    """Styles (5, 1) and (9, 2) put on (0, 2) give (4, 6) and (7, 11)."""
    bank = {"B/input": torch.tensor([[[5.0], [1.0]], [[9.0], [2.0]]])}
    plugin = begun(CCST(p=1, variant="single", bank_size=2), bank)
    styled = restyled(plugin, flat_batch([[0.0, 2.0]] * 64)).flatten(1)
    assert {tuple(round(value, 3) for value in image) for image in styled.tolist()} == {(4.0, 6.0), (7.0, 11.0)}


def test_the_bank_of_single_images_has_a_fixed_size() -> None:
    """Two images for three places: each is there, and one again."""
    plugin = begun(CCST(variant="single", bank_size=3, min_images=2), {})
    restyled(plugin, flat_batch([[0.0, 2.0], [4.0, 10.0]]))
    shared = plugin.on_round_end(None)["input"]
    assert tuple(shared.shape) == (3, 2, 1)
    assert {tuple(style) for style in shared.flatten(1).tolist()} == {(1.0, 1.0), (7.0, 3.0)}


def test_giving_away_single_images_warns() -> None:
    with pytest.warns(UserWarning, match="single patients' images"):
        CCST(variant="single").validate()


def test_the_overall_variant_shares_24_bytes_for_colour_images() -> None:
    shared = Clinic.of(FedAvg(), [CCST()]).play(1).server.shared["CCST"]
    assert num_bytes(dict(shared)) == len(SITES) * 24


@pytest.mark.parametrize("arguments", [{"p": 2.0}, {"bank_size": 0}, {"min_images": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        CCST(**arguments).validate()
