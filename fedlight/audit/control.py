"""The control: a small network that gives its image away, so that an attack which fails elsewhere is known to work.

One convolution and one linear layer, with fresh weights; the gradient of a linear layer is the outer product of what
comes in and what is wrong behind it, so the image's features lie in it openly (arXiv 1906.08935, 2003.14053). Networks
for segmentation have no such layer: the gradients of their convolutions are sums over all places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedlight.audit.inversion import Gradients
from fedlight.randomness import seeded

_WIDTH = 8
_OUTPUTS = 16


def control(image: Tensor, seed: int) -> Gradients:
    """Returns the gradients of a small network for images of one size.

    Args:
        image: (C, H, W), as large as those that it will get.
        seed: Of its weights.
    """
    channels, height, width = image.shape
    with seeded(seed, "audit", "control"):
        network = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, kernel_size=3, padding=1),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(_WIDTH * height * width, _OUTPUTS),
        )
    params, wanted = list(network.parameters()), torch.eye(_OUTPUTS)[:1]

    def gradients(images: Tensor) -> Sequence[Tensor]:
        loss = (network(images) - wanted).square().mean()
        return torch.autograd.grad(loss, params, create_graph=images.requires_grad)

    return gradients
