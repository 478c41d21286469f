"""Cases to look at: images with what was drawn and what was predicted."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlight.batch import is_volume
from fedlight.data.federated import FederatedDataModule
from fedlight.geometry import restore
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.overlay import spread

SLICES = 8
"""Slices of a volume that are shown, at most."""

Examples = tuple[Tensor, Tensor, Tensor]


@torch.inference_mode()
def examples(
    module: FederatedModule, data: FederatedDataModule, institution: str
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Segments the first validation batch of an institution; patients' pixels, for those who asked.

    Returns:
        Images (N, C, H, W), scaled to [0, 1] one by one, masks and predictions, both (N, H, W), on the grid of the
        first case as read, of a volume a few slices; None where there is no validation case.
    """
    batch = next(iter(data.loader(institution, "val")), None)
    if batch is None:
        return None
    height, width = batch["size"][0].tolist()
    images = restore(batch["image"], (height, width), module.placing)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    predictions = module.eval().segment(batch).argmax(1)
    images = (images - low) / (high - low).clamp_min(1e-6)
    if not is_volume(batch):
        return images, batch["mask"], predictions
    chosen, middle = spread(batch["mask"], SLICES), images.shape[1] // 2  # its neighbours are further channels
    return images[chosen, middle : middle + 1], batch["mask"][chosen], predictions[chosen]
