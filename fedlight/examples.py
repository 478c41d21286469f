"""Cases to look at: images with what was drawn and what was predicted."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlight.data.federated import FederatedDataModule
from fedlight.geometry import restore
from fedlight.tasks.federated_module import FederatedModule

Examples = tuple[Tensor, Tensor, Tensor]


@torch.inference_mode()
def examples(
    module: FederatedModule, data: FederatedDataModule, institution: str
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Segments the first validation batch of an institution; patients' pixels, for those who asked.

    Returns:
        Images (N, C, H, W), scaled to [0, 1] one by one, masks and predictions, both (N, H, W), on the grid of the
        first case as read; None where there is no validation case.
    """
    batch = next(iter(data.loader(institution, "val")), None)
    if batch is None:
        return None
    height, width = batch["size"][0].tolist()
    images = restore(batch["image"], (height, width), module.placing)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    predictions = module.eval().segment(batch).argmax(1)
    return (images - low) / (high - low).clamp_min(1e-6), batch["mask"], predictions
