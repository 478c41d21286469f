"""ELCFS: the inner step, the boundary term, and what a site gives away."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from fedlight_algorithms import ELCFS, FedAvg
from torch import nn

from fedlight.plugins.boundary import boundary_contrast, boundary_regions, region_embeddings
from fedlight.state import num_bytes
from tests.algorithms.banks import begun
from tests.contracts.harness import SITES, Clinic, images_of, second_round


@pytest.mark.parametrize(
    ("arguments", "slope"), [({}, 0.25), ({"second_order": False}, 0.5), ({"released": True}, 0.5)], ids=str
)
def test_the_inner_step_and_the_gradient_through_it(arguments: dict[str, Any], slope: float) -> None:
    """L = w^2 / 2 at w = 1 with beta 1/2: theta' = w - w / 2 = 1/2, and (theta')^2 / 2 = 1/8.

    Through the inner gradient theta' = w / 2, so the slope is theta' / 2 = 1/4; as a constant, theta' = w - 1/2: 1/2.
    """
    plugin = ELCFS(beta=0.5, **arguments)
    w = nn.Parameter(torch.tensor(1.0))
    plugin._params = {"w": w}
    moved = plugin._inner_step(w.square() / 2)["w"]
    outer = moved.square() / 2
    torch.autograd.backward(outer)
    assert w.grad is not None
    assert (moved.item(), outer.item(), w.grad.item()) == (0.5, 0.125, slope)


def test_as_released_an_image_takes_on_the_other_sites_mean_and_nothing_else() -> None:
    """An image 1 + 2 cos becomes 3 + 2 cos where the other site's mean amplitude is 3, whatever would be drawn."""
    across = 2 * math.pi * torch.arange(8.0) / 8
    image = (1 + 2 * torch.cos(across)).expand(1, 1, 8, 8)
    plugin = begun(ELCFS(released=True), {"B/amplitude": torch.full((1, 1, 1), 3.0)})
    styled = plugin._stylised(image, torch.ones(1, 8, 8, dtype=torch.bool))
    torch.testing.assert_close(styled, image + 2)


def test_as_released_it_trains() -> None:
    """One number a channel is shared: 12 bytes a site; the window may be too small for the images then."""
    clinic = Clinic.of(FedAvg(), [ELCFS(released=True, window=0.01)]).play(2)
    assert num_bytes(dict(clinic.server.shared["ELCFS"])) == len(SITES) * 12


def test_the_boundary_term_is_info_nce() -> None:
    """Two contours along x, two rings along y, tau 1: s is e within a kind and 1 across: log((e + 2) / e) for all."""
    embeddings = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    found = boundary_contrast(embeddings, torch.tensor([0, 0, 1, 1]), 1.0)
    assert found.item() == pytest.approx(math.log((math.e + 2) / math.e), rel=1e-6)


def test_a_smaller_temperature_counts_the_same_similarities_more() -> None:
    """At tau 1/2, s is e^2 within a kind."""
    embeddings = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    found = boundary_contrast(embeddings, torch.tensor([0, 0, 1, 1]), 0.5)
    assert found.item() == pytest.approx(math.log((math.e**2 + 2) / math.e**2), rel=1e-6)


@pytest.mark.parametrize("kinds", [[0, 0], [0, 1], [0], []])
def test_without_a_pair_or_another_kind_it_is_zero(kinds: list[int]) -> None:
    """Also its gradient, where features vanish."""
    embeddings = torch.zeros(len(kinds), 3, requires_grad=True)
    found = boundary_contrast(embeddings, torch.tensor(kinds, dtype=torch.int64), 0.05)
    torch.autograd.backward(found)
    assert found.item() == 0
    assert embeddings.grad is not None
    assert bool((embeddings.grad == 0).all())


def test_contour_and_ring_lie_inside_and_outside_the_edge() -> None:
    """Of a 3 x 3 square in 7 x 7 pixels, the contour is all but the centre, and the ring all of the 5 x 5 around it."""
    mask = torch.zeros(1, 1, 7, 7)
    mask[..., 2:5, 2:5] = 1
    contour, ring = boundary_regions(mask, 1, 1)
    assert (contour.sum().item(), contour[0, 0, 3, 3].item()) == (8, 0)
    assert (ring.sum().item(), ring[0, 0, 1:6, 1:6].sum().item(), (ring * mask).sum().item()) == (16, 16, 0)


def test_embeddings_are_means_over_regions_that_exist() -> None:
    """One image in two styles, features (1, 2) and (10, 20) of two pixels: the second is contour, there is no ring."""
    features = torch.tensor([[1.0, 2.0], [10.0, 20.0]]).view(2, 1, 1, 1, 2)
    regions = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).view(2, 1, 1, 1, 2)
    embeddings, kinds = region_embeddings(features, regions)
    assert (embeddings.flatten().tolist(), kinds.tolist()) == ([2.0, 20.0], [0, 0])


def test_the_penalty_reaches_every_parameter() -> None:
    with second_round(ELCFS(gamma=1.0)) as module:
        plugin = cast(Any, module.plugins[0])
        batch = plugin.transform_batch(images_of("A"))
        seen: list[torch.Tensor] = []
        penalty = plugin.penalty
        plugin.penalty = lambda step: seen.append(penalty(step))
        module.training_step(batch, 0)
        torch.autograd.backward(seen[0])
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in module.parameters())


def test_the_first_round_is_fedavgs() -> None:
    elcfs, plain = (Clinic.of(FedAvg(), plugins).play(1).server.params for plugins in ([ELCFS()], []))
    assert all(torch.equal(elcfs[name], plain[name]) for name in plain)


def test_a_site_shares_half_a_window() -> None:
    """16 pixels, b = 1: 3 channels x 3 x 2 float32 numbers are 72 bytes a site."""
    shared = Clinic.of(FedAvg(), [ELCFS()]).play(1).server.shared["ELCFS"]
    assert num_bytes(dict(shared)) == len(SITES) * 72


def test_single_images_are_given_away_only_when_asked_for_and_with_a_warning() -> None:
    """Four images: 4 x 72 bytes a site. Training goes on with them."""
    with pytest.warns(UserWarning, match="single patients' images"):
        clinic = Clinic.of(FedAvg(), [ELCFS(per_image=True, bank_size=4)]).play(2)
    assert num_bytes(dict(clinic.server.shared["ELCFS"])) == len(SITES) * 4 * 72


@pytest.mark.parametrize(
    "arguments",
    [{"weight": -1.0}, {"beta": -1.0}, {"gamma": -1.0}, {"tau": 0.0}, {"window": 0.5}, {"ring": 0}, {"bank_size": 0}],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        ELCFS(**arguments).validate()


def test_images_have_no_spread() -> None:
    with pytest.raises(ValueError, match="spread must be 0 with per_image"):
        ELCFS(per_image=True, spread=1.0).validate()
