"""Claims about Dice plus cross-entropy over valid pixels."""

import math

import pytest
import torch
from torch import Tensor

from fedlight.tasks.losses import dice_cross_entropy


def loss_of(
    logits: Tensor, masks: Tensor, valid: Tensor, dice: float = 1.0, cross_entropy: float = 1.0, batch: bool = True
) -> Tensor:
    return dice_cross_entropy(
        logits, masks, valid, dice_weight=dice, cross_entropy_weight=cross_entropy, batch_dice=batch
    )


def example(classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2, K, 8, 8), masks and valid pixels, a quarter of which do not count."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1 if classes == 2 else classes, 8, 8, generator=generator)
    masks = torch.randint(classes, (2, 8, 8), generator=generator)
    return logits, masks, torch.rand(2, 8, 8, generator=generator) > 0.25


def test_binary_loss_is_the_hand_computed_one() -> None:
    """Logits of 0 are probabilities of 1/2; one of four pixels is foreground.

    Dice is 2 * 1/2 / (4 * 1/2 + 1) = 1/3, so its loss is 2/3; the cross-entropy of every pixel is log 2.
    """
    logits = torch.zeros(1, 1, 2, 2)
    masks = torch.tensor([[[1, 0], [0, 0]]])
    loss = loss_of(logits, masks, torch.ones(1, 2, 2, dtype=torch.bool), dice=3.0, cross_entropy=2.0)
    assert loss.item() == pytest.approx(3 * 2 / 3 + 2 * math.log(2), abs=1e-6)


def test_multi_class_dice_is_the_mean_over_foreground_classes() -> None:
    """Three classes at 1/3 each on four pixels, two of class 1 and one of class 2.

    Dice of class 1 is 2 * 2/3 / (4/3 + 2) = 0.4, of class 2 it is 2 * 1/3 / (4/3 + 1) = 2/7; background is left out.
    """
    masks = torch.tensor([[[1, 1], [2, 0]]])
    loss = loss_of(torch.zeros(1, 3, 2, 2), masks, torch.ones(1, 2, 2, dtype=torch.bool), cross_entropy=0.0)
    assert loss.item() == pytest.approx(1 - (0.4 + 2 / 7) / 2, abs=1e-6)


def test_dice_of_images_differs_from_dice_of_the_batch() -> None:
    """Probabilities 1/2 everywhere; the first image is all foreground, the second has one pixel in four.

    By image: 2 * 2 / (2 + 4) = 2/3 and 1/3, mean 1/2. Together: 2 * 2.5 / (4 + 5) = 5/9.
    """
    masks = torch.tensor([[[1, 1], [1, 1]], [[1, 0], [0, 0]]])
    valid = torch.ones(2, 2, 2, dtype=torch.bool)
    by_image = loss_of(torch.zeros(2, 1, 2, 2), masks, valid, cross_entropy=0.0, batch=False)
    together = loss_of(torch.zeros(2, 1, 2, 2), masks, valid, cross_entropy=0.0, batch=True)
    assert by_image.item() == pytest.approx(1 / 2, abs=1e-6)
    assert together.item() == pytest.approx(4 / 9, abs=1e-6)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("garbage", [1e30, float("nan"), float("inf")])
def test_garbage_outside_valid_pixels_changes_no_bit(classes: int, garbage: float, batch: bool) -> None:
    logits, masks, valid = example(classes)
    dirty = torch.where(valid[:, None], logits, garbage)
    other_masks = torch.where(valid, masks, (masks + 1) % classes)
    clean_input, dirty_input = logits.clone().requires_grad_(), dirty.clone().requires_grad_()
    clean = loss_of(clean_input, masks, valid, batch=batch)
    spoilt = loss_of(dirty_input, other_masks, valid, batch=batch)
    assert torch.equal(clean, spoilt)
    (clean_gradient,) = torch.autograd.grad(clean, clean_input)
    (gradient,) = torch.autograd.grad(spoilt, dirty_input)
    assert torch.equal(clean_gradient, gradient)
    assert not gradient.masked_select(~valid[:, None]).any()


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_empty_masks_and_images_without_a_valid_pixel_give_finite_losses(classes: int, batch: bool) -> None:
    logits, masks, valid = example(classes)
    for some_masks, some_valid in ((torch.zeros_like(masks), valid), (masks, torch.zeros_like(valid))):
        leaf = logits.clone().requires_grad_()
        loss = loss_of(leaf, some_masks, some_valid, batch=batch)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_nothing_valid_is_a_loss_of_zero() -> None:
    logits, masks, valid = example(2)
    assert loss_of(logits, masks, torch.zeros_like(valid)).item() == 0


def test_cross_entropy_adds_over_images_of_one_size() -> None:
    """Without Dice, the loss of a batch is the mean of the losses of its images: what centralised training needs."""
    logits, masks, _ = example(3)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    whole = loss_of(logits.double(), masks, valid, dice=0.0)
    parts = [loss_of(logits[i : i + 1].double(), masks[i : i + 1], valid[i : i + 1], dice=0.0) for i in range(2)]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts) / 2, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    """65504 is the largest float16: a sum over 2 * 256 * 256 pixels would overflow."""
    logits = torch.full((2, 1, 256, 256), 5.0, dtype=dtype)
    loss = loss_of(logits, torch.ones(2, 256, 256, dtype=torch.int64), torch.ones(2, 256, 256, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
