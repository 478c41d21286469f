"""CrossEFDMix: the exchange of quantiles and the mixture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import CrossEFDMix, FedAvg
from fedlight_algorithms.cross_efdmix import displacement, transport
from torch import Tensor

from fedlight.plugins.ranks import quantiles_of
from fedlight.state import num_bytes
from tests.algorithms.banks import begun, flat_batch, restyled
from tests.contracts.harness import SITES, Clinic, images_of


def row(*values: float) -> Tensor:
    return torch.tensor([[values]])  # (1, 1, n)


def test_values_take_on_the_others_at_their_own_rank() -> None:
    """With as many quantiles as values this is sorting: (3, 1, 2) becomes largest, least and middle of 10, 20, 60."""
    own, others = row(1.0, 2.0, 3.0), row(10.0, 20.0, 60.0)
    assert transport(row(3.0, 1.0, 2.0), own, others).flatten().tolist() == [60.0, 10.0, 20.0]
    assert transport(row(1.5, 2.25), own, others).flatten().tolist() == [15.0, 30.0]


def test_equal_values_get_one_rank() -> None:
    """Ranks of 0, 0, 0, 1: three zeros share the middle one, the second of 10, 20, 30, 40."""
    matched = transport(row(0.0, 1.0, 0.0, 0.0), row(0.0, 0.0, 0.0, 1.0), row(10.0, 20.0, 30.0, 40.0))
    assert matched.flatten().tolist() == [20.0, 40.0, 20.0, 20.0]


def test_a_constant_channel_becomes_the_others_median() -> None:
    moved = displacement(row(5.0, 5.0), row(5.0, 5.0, 5.0), row(1.0, 2.0, 9.0), torch.zeros(1))
    assert moved.flatten().tolist() == [-3.0, -3.0]


def test_the_table_is_the_transport_up_to_its_steps() -> None:
    """Slopes are at most 40, steps 2 / 256, and at lambda 1/2 values go half the way: an error below 20 / 256."""
    own, others = row(1.0, 2.0, 3.0), row(10.0, 20.0, 60.0)
    values = torch.linspace(1, 3, 777)[None, None]
    expected = (transport(values, own, others) - values) / 2
    assert (displacement(values, own, others, torch.full((1,), 0.5)) - expected).abs().max() < 20 / 256


def test_values_beyond_the_outermost_quantiles_go_as_far_as_these() -> None:
    """9 from 1 to 10 and 57 from 3 to 60."""
    moved = displacement(row(0.0, 4.0), row(1.0, 2.0, 3.0), row(10.0, 20.0, 60.0), torch.zeros(1))
    assert moved.flatten().tolist() == [9.0, 57.0]


def test_with_its_own_quantiles_an_image_stays_itself() -> None:
    x = images_of("B")["image"]
    own = quantiles_of(x, images_of("B")["valid"], 9)
    assert displacement(x.flatten(2), own, own, torch.zeros(4)).abs().max() < 1e-5


def test_an_image_goes_some_way_to_the_others_distribution() -> None:
    """(0, 1, 2) towards quantiles (10, 20, 60): every place has gone the same share 1 - lambda of (10, 19, 58)."""
    plugin = begun(CrossEFDMix(p=1, stages=["input"], quantiles=3), {"B/input": torch.tensor([[10.0, 20.0, 60.0]])})
    moved = restyled(plugin, flat_batch([[0.0, 1.0, 2.0]] * 64)).flatten(1) - torch.tensor([0.0, 1.0, 2.0])
    share = moved[:, 0] / 10
    torch.testing.assert_close(moved, share[:, None] * torch.tensor([10.0, 19.0, 58.0]), rtol=1e-3, atol=1e-3)
    assert share.min() < 0.01
    assert share.max() > 0.99


def test_the_gradient_passes_as_if_nothing_had_been_done() -> None:
    plugin = begun(CrossEFDMix(p=1, stages=["input"], quantiles=3), {"B/input": torch.tensor([[10.0, 20.0, 60.0]])})
    batch = flat_batch([[0.0, 1.0, 2.0]])
    x = batch["image"].requires_grad_()
    torch.autograd.backward(plugin.restyle("input", x, plugin.transform_batch(batch)).sum())
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1.0, 1.0, 1.0]


def test_a_site_shares_its_mean_quantiles() -> None:
    """Images (0, 2, 4) and (2, 6, 6): 1, 4, 5."""
    plugin = begun(CrossEFDMix(p=0.5, stages=["input"], quantiles=3, min_images=2), {})
    restyled(plugin, flat_batch([[0.0, 2.0, 4.0], [2.0, 6.0, 6.0]]))
    assert plugin.on_round_end(None)["input"].tolist() == [[1.0, 4.0, 5.0]]


def test_the_bank_holds_the_quantiles_of_every_channel() -> None:
    """33 quantiles of 4 + 4 channels in float32: 1056 bytes a site. With 16 + 32 channels: 6336."""
    shared = Clinic.of(FedAvg(), [CrossEFDMix()]).play(1).server.shared["CrossEFDMix"]
    assert num_bytes(dict(shared)) == len(SITES) * 1056


@pytest.mark.parametrize("arguments", [{"p": 2.0}, {"alpha": 0.0}, {"quantiles": 1}, {"min_images": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        CrossEFDMix(**arguments).validate()
