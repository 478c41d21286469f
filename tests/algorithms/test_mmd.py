"""MMD: the embedding by hand, the kernel that it stands for, and what sites agree on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedlight_algorithms import MMD, FedAvg
from fedlight_algorithms.mmd import embed, frequencies

from fedlight.state import num_bytes
from tests.contracts.harness import Clinic, context_of


def test_embedding_is_the_mean_of_cosines_and_sines() -> None:
    """Rows 0 and pi / 2 under the one frequency 1: cosines 1, 0, sines 0, 1, so (1/2, 1/2); a row of weight 0 is out.

    The squared distance to the embedding (1, 0) of the row 0 alone is 1/4 + 1/4.
    """
    rows, omega = torch.tensor([[0.0], [math.pi / 2], [3.0]]), torch.ones(1, 1)
    both = embed(rows, torch.tensor([1.0, 1.0, 0.0]), omega)
    zero = embed(rows[:1], torch.ones(1), omega)
    torch.testing.assert_close(both, torch.tensor([0.5, 0.5]))
    assert (both - zero).square().sum().item() == pytest.approx(0.5)


def test_frequencies_have_the_deviation_of_their_kernel() -> None:
    """Gamma 2 and 8 give sqrt 4 = 2 and sqrt 16 = 4, in turn; 20000 draws are within 3 % of these."""
    omega = frequencies(20000, 4, (2.0, 8.0), torch.Generator().manual_seed(0))
    assert omega.std(0).tolist() == pytest.approx([2, 4, 2, 4], rel=0.03)


def test_inner_products_are_the_gaussian_kernel() -> None:
    """Exp(-0.5 * ||(0, 0) - (1, 1)||^2) = e^-1; the error of 20000 frequencies is about 1 / sqrt 20000 = 0.007."""
    omega = frequencies(2, 20000, (0.5,), torch.Generator().manual_seed(0))
    one = torch.ones(1)
    product = embed(torch.zeros(1, 2), one, omega) @ embed(torch.ones(1, 2), one, omega)
    assert product.item() == pytest.approx(math.exp(-1), abs=0.03)


def test_server_averages_by_the_weights_of_the_sites() -> None:
    """Weights 1 and 3 of 0 and 4: 3."""
    plugin = MMD()
    plugin.begin(context_of(("A", "B"), A=1, B=3), {})
    for site, value in (("A", 0.0), ("B", 4.0)):
        plugin.add(site, 1, {"bottleneck": torch.tensor([value])})
    assert plugin.finish()["bottleneck"].item() == 3
    plugin.begin(context_of(), {"bottleneck": torch.ones(1)})
    assert plugin.finish()["bottleneck"].item() == 1, "a round without statistics keeps the reference"


def test_all_sites_draw_the_same_frequencies_in_all_rounds() -> None:
    """Sites with the same images and model share the same numbers, whatever the round."""
    rows, found = torch.zeros(1, 3), []
    for site, number in (("A", 1), ("B", 1), ("A", 3)):
        clinic, plugin = Clinic.of(FedAvg()), MMD()
        clinic.server.round, plugin.instance_id = number - 1, "MMD"
        plugin.on_round_start(site, clinic.clients[site].module, clinic.broadcast())
        found.append(plugin._frequencies("bottleneck", rows))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_bytes_do_not_depend_on_the_network() -> None:
    """Two float32 a frequency: 8 * 256 bytes."""
    clinic = Clinic.of(FedAvg(), [MMD()])
    assert num_bytes(dict(clinic.fit("A", clinic.broadcast()).shared["MMD"])) == 2048


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"ramp": 1.5}, {"frequencies": 0}, {"gammas": (0.0,)}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        MMD(**arguments).validate()
