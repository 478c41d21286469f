"""Dice plus cross-entropy over valid pixels.

Both terms come from libraries: Dice from segmentation_models_pytorch, cross-entropy from torch. What is added here is
that a pixel which does not count contributes nothing, to the value or to the gradient, whatever the network says there.

A class that no valid pixel of the batch (of the image, without ``batch_dice``) belongs to is left out of Dice; the
cross-entropy still says that it should not be predicted. With several classes, Dice is over the foreground classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -1


def dice_cross_entropy(
    logits: Tensor, masks: Tensor, valid: Tensor, *, dice_weight: float, cross_entropy_weight: float, batch_dice: bool
) -> Tensor:
    """Returns ``dice_weight * (1 - Dice) + cross_entropy_weight * cross-entropy``, a scalar.

    Args:
        logits: (N, K, H, W), any floating dtype; K is 1 for a binary task. Half precision is computed in float32.
        masks: (N, H, W), int64.
        valid: (N, H, W), bool.
        dice_weight: Weight of the Dice term; 0 leaves it out.
        cross_entropy_weight: Weight of the cross-entropy, which is a mean over valid pixels; 0 leaves it out.
        batch_dice: Whether Dice counts the pixels of all images together or is a mean over images.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    logits = torch.where(valid[:, None], logits, 0.0)  # not a product: 0 * nan is nan
    target = masks.masked_fill(~valid, IGNORED)
    loss = logits.sum() * 0
    if dice_weight:
        loss = loss + dice_weight * _dice(logits, target, batch_dice)
    if cross_entropy_weight:
        loss = loss + cross_entropy_weight * _cross_entropy(logits, target, valid)
    return loss


def _dice(logits: Tensor, target: Tensor, batch_dice: bool) -> Tensor:
    from segmentation_models_pytorch.losses import DiceLoss

    classes = logits.shape[1]
    dice = (
        DiceLoss("binary", ignore_index=IGNORED)
        if classes == 1
        else DiceLoss("multiclass", classes=list(range(1, classes)), ignore_index=IGNORED)
    )
    if batch_dice:
        return dice(logits, target)  # type: ignore[no-any-return]
    return torch.stack([dice(logits[i : i + 1], target[i : i + 1]) for i in range(len(logits))]).mean()


def _cross_entropy(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    count = valid.sum().clamp(min=1)
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum") / count
    total = F.binary_cross_entropy_with_logits(
        logits[:, 0], target.clamp(min=0).to(logits.dtype), weight=valid.to(logits.dtype), reduction="sum"
    )
    return total / count
