"""FedFA: variances over sites, the scope of the jitter, and the difference between paper and released code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg, FedFA
from fedlight_algorithms.fedfa import jitter, variance_between
from torch import Tensor

from fedlight.state import num_bytes
from tests.algorithms.banks import begun, flat_batch, restyled
from tests.contracts.harness import Clinic

# two sites, mu and sigma of two channels
SITES = torch.tensor([[[0.0, 5.0], [1.0, 1.0]], [[2.0, 5.0], [1.0, 3.0]]])


def test_the_variance_over_sites_is_that_of_every_channel() -> None:
    """Mu 0 and 2 in the first channel: variance 1; 5 and 5 in the second: 0. Sigma 1, 1: 0; 1, 3: 1."""
    assert variance_between(SITES).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_released_variance_is_one_number() -> None:
    """Mu 0, 5, 2, 5: mean 3, squared deviations 9, 4, 1, 4, so 4.5. Sigma 1, 1, 1, 3: mean 1.5, 0.75."""
    assert variance_between(SITES, released=True).tolist() == [[4.5, 4.5], [0.75, 0.75]]


def scope(between: Tensor) -> Tensor:
    """The jitter of noise 1 on two images whose mu are 0 and 2 and whose sigma are 3 and 5, in two channels."""
    style = torch.tensor([[[0.0, 0.0], [3.0, 3.0]], [[2.0, 2.0], [5.0, 5.0]]])
    return (jitter(style, style, between, torch.ones(2, 2, 2)) - style)[0]


def test_channels_in_which_sites_differ_are_jittered_more() -> None:
    """V = (1, 3): u = (1/2, 3/4), gamma = 2 u / (5/4) = (0.8, 1.2). The batch's variance is 1: S^2 = (1.8, 2.2)."""
    torch.testing.assert_close(scope(torch.tensor([[1.0, 3.0]] * 2)).square(), torch.tensor([[1.8, 2.2]] * 2))


def test_one_variance_for_all_channels_doubles_that_of_the_batch() -> None:
    """Gamma is 1 whatever V: S^2 = 2."""
    for v in (0.1, 7.0):
        torch.testing.assert_close(scope(torch.full((2, 2), v)).square(), torch.full((2, 2), 2.0))


def test_sites_that_agree_add_nothing() -> None:
    assert torch.equal(scope(torch.zeros(2, 2)), torch.ones(2, 2))


def test_sigma_stops_at_zero() -> None:
    style = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])
    jittered = jitter(style, style, torch.zeros(2, 1), torch.full((2, 2, 1), -2.0))
    assert jittered[:, 1].flatten().tolist() == [0.0, 1.0]


def test_one_image_is_not_jittered() -> None:
    batch = flat_batch([[0.0, 2.0]])
    torch.testing.assert_close(restyled(begun(FedFA(p=1, stages=["input"]), {}), batch), batch["image"])


def test_the_running_mean_is_a_mean() -> None:
    """Batches of mean mu 1 and 5 with decay 1/2: (0.5 * 0.5 * 1 + 0.5 * 5) / 0.75 = 11/3; sigma 1 and 1."""
    plugin = begun(FedFA(p=0.5, decay=0.5, stages=["input"], min_images=1), {})
    for mean in (1.0, 5.0):
        restyled(plugin, flat_batch([[mean - 1, mean + 1]]))
    torch.testing.assert_close(plugin.on_round_end(None)["input"].flatten(), torch.tensor([11 / 3, 1.0]))


def test_images_without_a_valid_pixel_do_not_count() -> None:
    """Three images, of which one has no valid pixel, where three are needed."""
    plugin = begun(FedFA(stages=["input"], min_images=3), {})
    batch = flat_batch([[0.0, 2.0], [1.0, 5.0], [3.0, 3.0]])
    batch["valid"][2] = False
    restyled(plugin, batch)
    assert plugin.on_round_end(None) == {}


def test_it_shares_two_numbers_a_channel_each_way() -> None:
    """Here 4 + 4 + 6 channels: 112 bytes. With 16 + 32 + 128: 1408."""
    clinic = Clinic.of(FedAvg(), [FedFA()]).play(1)
    assert num_bytes(dict(clinic.server.shared["FedFA"])) == 112
    assert num_bytes(dict(clinic.fit("A", clinic.broadcast()).shared["FedFA"])) == 112


@pytest.mark.parametrize("arguments", [{"p": 2.0}, {"decay": 1.0}, {"min_images": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        FedFA(**arguments).validate()
