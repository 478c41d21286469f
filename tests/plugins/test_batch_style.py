"""Every style augmentation that needs nothing but the batch: when it acts, on what, and what it leaves alone.

By default such a plugin acts now and then; here it always does, and keeps the promises of all client plugins too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.batch_style import BatchStyle
from fedlight.plugins.discovery import discover, registered
from tests.contracts import checks
from tests.contracts.harness import images_of, pick

discover()
MEMBERS: dict[str, Any] = {p.name: p.cls for p in registered() if issubclass(p.cls, BatchStyle)}
WHOLE_MAP = {"MixStyle"}
"""These move what is not valid as well."""

every_member = pytest.mark.parametrize("name", MEMBERS)


def styled(name: str, x: Tensor, batch: Batch, **arguments: Any) -> Tensor:
    """Sends features through a plugin that always acts unless told otherwise."""
    plugin: Any = MEMBERS[name](**{"p": 1.0, **arguments})
    plugin.generator = torch.Generator().manual_seed(0)
    restyled: Tensor = plugin.restyle("encoder1", x, batch)
    return restyled


def test_the_family_is_known() -> None:
    assert {"MixStyle", "EFDMix", "DSU", "PAdaIN", "TriD"} <= set(MEMBERS)


@every_member
def test_zero_probability_never_acts(name: str) -> None:
    batch = images_of("A")
    assert styled(name, batch["image"], batch, p=0.0) is batch["image"]


@every_member
def test_probability_is_per_batch(name: str) -> None:
    """Of 400 batches with p = 0.5, 200 are restyled on average; five standard deviations are 50."""
    plugin, batch = MEMBERS[name](p=0.5), images_of("A", size=4)
    plugin.generator = torch.Generator().manual_seed(0)
    acted = sum(plugin.restyle("encoder1", batch["image"], batch) is not batch["image"] for _ in range(400))
    assert 150 < acted < 250


@every_member
def test_one_image_has_no_partner(name: str) -> None:
    batch = pick(images_of("A"), [0])
    alone = styled(name, batch["image"], batch)
    assert (alone is batch["image"]) == (not MEMBERS[name].example_independent)


@every_member
def test_features_change_and_what_is_brightest_stays_extreme(name: str) -> None:
    """A style is put on by a curve a channel, which rises or, where a deviation is negative, falls."""
    batch = {**images_of("A"), "valid": torch.ones(4, 16, 16, dtype=torch.bool)}
    x, after = images_of("A")["image"].flatten(2), styled(name, batch["image"], batch).flatten(2)  # type: ignore[arg-type]
    assert not torch.equal(after, x)
    brightest = after.gather(-1, x.argmax(-1, keepdim=True))[..., 0]
    extreme = torch.minimum((brightest - after.amax(-1)).abs(), (brightest - after.amin(-1)).abs())
    assert extreme.max() < 1e-4


@every_member
def test_only_valid_pixels_set_the_style(name: str) -> None:
    """Values in the corner that is not valid change only themselves."""
    batch = images_of("A")
    valid = batch["valid"][:, None].expand_as(batch["image"])
    spoiled = torch.where(valid, batch["image"], 99.0)
    clean, other = (styled(name, x, batch) for x in (batch["image"], spoiled))
    torch.testing.assert_close(clean[valid], other[valid])
    assert torch.equal(other[~valid], spoiled[~valid]) == (name not in WHOLE_MAP)


@every_member
def test_features_of_other_sizes_are_restyled_too(name: str) -> None:
    """A coarser feature map has its own share of valid places: here the first of four in each direction is not."""
    batch = images_of("A")
    x = torch.rand(4, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    after = styled(name, x, batch)
    assert after.shape == x.shape
    assert torch.equal(after[..., 0, 0], x[..., 0, 0]) == (name not in WHOLE_MAP)


@every_member
def test_no_gradient_reaches_a_partner(name: str) -> None:
    batch = images_of("A")
    x = batch["image"].requires_grad_()
    torch.autograd.backward(styled(name, x, batch)[0].sum())
    assert x.grad is not None
    assert bool((x.grad[0] != 0).any())
    assert not bool((x.grad[1:] != 0).any())


@every_member
def test_the_gradient_takes_statistics_as_constants(name: str) -> None:
    """So it is one number a channel of an image, wherever a pixel is valid."""
    batch = images_of("A")
    x = batch["image"].requires_grad_()
    torch.autograd.backward(styled(name, x, batch).sum())
    assert x.grad is not None
    gradient = x.grad.flatten(2)[..., batch["valid"][0].flatten()]
    torch.testing.assert_close(gradient, gradient[..., :1].expand_as(gradient))


@every_member
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_half_precision(name: str, dtype: torch.dtype) -> None:
    batch = images_of("A")
    half = styled(name, batch["image"].to(dtype), batch)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), styled(name, batch["image"], batch), rtol=0.05, atol=0.1)


@every_member
@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_an_impossible_probability_is_refused(name: str, p: float) -> None:
    with pytest.raises(ValueError, match="p must be a probability in"):
        MEMBERS[name](p=p).validate()


@every_member
@pytest.mark.parametrize(
    "check",
    [
        checks.masks_are_never_touched,
        checks.inputs_are_not_modified,
        checks.same_generator_same_result,
        checks.hard_batches_stay_finite,
    ],
    ids=lambda check: check.__name__,
)
def test_promises_of_client_plugins_hold_when_it_always_acts(name: str, check: Any) -> None:
    check(partial(MEMBERS[name], p=1.0))
