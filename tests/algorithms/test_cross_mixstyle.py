"""CrossMixStyle: the formula, the partner and what is shared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import CrossMixStyle, FedAvg

from fedlight.state import num_bytes
from tests.algorithms.banks import begun, flat_batch, restyled, style
from tests.contracts.harness import SITES, Clinic


def test_images_end_between_their_own_style_and_the_other_sites() -> None:
    """(0, 2) has mu 1 and sigma 1, the other site mu 5 and sigma 3: mu is 1 + 4 t and sigma 1 + 2 t, t = 1 - lambda.

    Beta(0.1, 0.1) has mean 1/2 and variance 1 / (4 * 1.2), so 4000 images have t = 1/2 on average, to within five
    standard errors, and half of all are close to one end.
    """
    plugin = begun(CrossMixStyle(p=1, stages=["input"]), {"B/input": style(5, 3)})
    styled = restyled(plugin, flat_batch([[0.0, 2.0]] * 4000)).flatten(1)
    t = (styled.mean(1) - 1) / 4
    torch.testing.assert_close(styled.std(1, unbiased=False), 1 + 2 * t, rtol=1e-4, atol=1e-4)
    assert t.mean().item() == pytest.approx(0.5, abs=5 * (1 / 4.8) ** 0.5 / 4000**0.5)
    assert ((t < 0.01) | (t > 0.99)).float().mean() > 0.5


def test_the_gradient_takes_statistics_as_constants() -> None:
    """Stretched by sigma_mix / sigma = 1 + 2 t where the mean went from 1 to 1 + 4 t."""
    plugin = begun(CrossMixStyle(p=1, stages=["input"]), {"B/input": style(5, 3)})
    batch = flat_batch([[0.0, 2.0]] * 64)
    x = batch["image"].requires_grad_()
    styled = plugin.restyle("input", x, plugin.transform_batch(batch))
    torch.autograd.backward(styled.sum())
    t = (styled.detach().flatten(1).mean(1) - 1) / 4
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(1), (1 + 2 * t)[:, None].expand(-1, 2), rtol=1e-4, atol=1e-4)


def test_the_default_network_would_share_768_bytes_a_site() -> None:
    """Here 4 + 4 channels, so 2 tensors of 4 x 4 float32 numbers: 128 bytes. With 16 + 32 channels: 768."""
    shared = Clinic.of(FedAvg(), [CrossMixStyle()]).play(1).server.shared["CrossMixStyle"]
    assert set(shared) == {f"{site}/{stage}" for site in SITES for stage in ("encoder1", "encoder2")}
    assert num_bytes(dict(shared)) == len(SITES) * 128


@pytest.mark.parametrize("arguments", [{"p": 2.0}, {"alpha": 0.0}, {"spread": -1.0}, {"min_images": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        CrossMixStyle(**arguments).validate()
