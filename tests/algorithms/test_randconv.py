"""RandConv: the convolution, what is drawn, and consistency."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import RandConv
from fedlight_algorithms.randconv import randconv
from torch import Tensor

from fedlight.plugins.consistency import disagreement
from tests.algorithms.test_image_styles import styled, with_images
from tests.contracts.harness import images_of, second_round


def row(*values: float) -> Tensor:
    return torch.tensor([[[values]]], dtype=torch.float32)  # (1, 1, 1, n)


def test_it_is_a_mixture_with_the_cross_correlation() -> None:
    """1, 2, 3 by the weights 1, 0, -1 and padded with 0: 0 - 2, 1 - 3, 2 - 0; half way from 1, 2, 3: -0.5, 0, 2.5."""
    kernel = torch.zeros(1, 1, 1, 3, 3)
    kernel[..., 1, :] = torch.tensor([1.0, 0.0, -1.0])
    assert torch.equal(randconv(row(1, 2, 3), kernel, torch.ones(1)), row(-2, -2, 2))
    assert torch.equal(randconv(row(1, 2, 3), kernel, torch.full((1,), 0.5)), row(-0.5, 0, 2.5))
    assert torch.equal(randconv(row(1, 2, 3), kernel, torch.zeros(1)), row(1, 2, 3))


def test_channels_are_summed_and_every_image_has_its_own_kernels() -> None:
    """Weights (1, 2) and (0, 1) of the channels 3 and 5 give 13 and 5; (1, 0) and (1, 1) of 1 and 1 give 1 and 2."""
    x = torch.tensor([[3.0, 5.0], [1.0, 1.0]])[:, :, None, None]
    kernels = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])[..., None, None]
    assert randconv(x, kernels, torch.ones(2)).flatten(1).tolist() == [[13.0, 5.0], [1.0, 2.0]]


def test_weights_have_the_variance_of_a_mean() -> None:
    """1 / (C k^2) = 1 / 27 for three channels and k = 3; 81 x 500 of them, so within some percent."""
    plugin = RandConv(kernel_sizes=[3])
    plugin.generator = torch.Generator().manual_seed(0)
    kernels, alpha = plugin._draw(500, 3)
    assert kernels.shape == (500, 3, 3, 3, 3)
    assert kernels.var().item() == pytest.approx(1 / 27, rel=0.05)
    assert kernels.mean().item() == pytest.approx(0, abs=0.005)
    assert alpha.mean().item() == pytest.approx(0.5, abs=0.07)
    assert 0 <= alpha.min() < 0.02 < 0.98 < alpha.max() < 1


def test_restandardised_images_keep_their_mean_and_are_never_louder() -> None:
    """A 1 x 1 kernel on grey multiplies by w; made standard again that is the image itself or its negative.

    So the distance from the mean is multiplied by 1, or by 1 - 2 alpha in [-1, 1]. Without, the factor is
    1 - alpha + alpha w, which a normal w makes larger than 1 now and then.
    """
    images = images_of("A", 1)["image"][:, :1].expand(200, -1, -1, -1)
    away = images - images.mean()
    factors = []
    for restandardise in (True, False):
        out = styled(RandConv(p=1, kernel_sizes=[1], restandardise=restandardise), with_images(images)) - images.mean()
        factor = (out * away).sum((1, 2, 3)) / away.square().sum((1, 2, 3))
        torch.testing.assert_close(out, factor[:, None, None, None] * away, rtol=1e-3, atol=1e-4)
        factors.append(factor)
    assert factors[0].abs().max() < 1.0001
    assert ((factors[0] - 1).abs() < 1e-4).float().mean() == pytest.approx(0.5, abs=0.2)
    assert factors[1].max() > 1.2


def test_consistency_is_its_weight_times_the_disagreement_of_three_views() -> None:
    batch = images_of("A")
    with second_round(RandConv(p=1, consistency=10.0)) as module:
        (plugin,) = module.plugins
        loss = module.training_step(batch, 0)
        assert len(plugin._views) == 2  # type: ignore[attr-defined]
    with second_round(RandConv(p=1, consistency=10.0)) as module:
        (plugin,) = module.plugins
        styled_batch = plugin.transform_batch(batch)
        views = [styled_batch["image"], *plugin._views]  # type: ignore[attr-defined]
        logits = [module(images) for images in views]
        supervised = module.criterion(logits[0], batch["mask"], batch["valid"])
        expected = supervised + 10 * disagreement(logits, batch["valid"])
    torch.testing.assert_close(loss, expected)
    assert expected > supervised


def test_without_consistency_there_is_no_further_pass() -> None:
    with second_round(RandConv(p=1)) as module:
        module.training_step(images_of("A"), 0)
        (plugin,) = module.plugins
        assert plugin._views == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [{"kernel_sizes": [2]}, {"kernel_sizes": []}, {"consistency": -1.0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        RandConv(**arguments).validate()
