"""GIN and IPA: images through small random networks (Ouyang et al., arXiv 2111.12525).

What an institution's device does to intensities is some unknown map. GIN (global intensity non-linear augmentation)
draws one anew for every image, a shallow convolutional network with random weights. IPA (interventional
pseudo-correlation augmentation) gives different places different maps, so that a network cannot rely on how
neighbouring organs happen to look together.

    g_net  = layers convolutions, weights and shifts ~ N(0, 1), k from {1, 3}, with LeakyReLU(0.01) between them
    g(x)   = m ||x||_F / ||m||_F,    m = alpha g_net(x) + (1 - alpha) x,    alpha ~ U(0, 1)                    (GIN)
    T_1(x) = b g_1(x) + (1 - b) g_2(x),    b in [0, 1] a smooth random field                                   (IPA)
    optional: + consistency mean_v KL(y_v || y)    over three views of an image, y the mean of their predictions;
              those of IPA are T_1, T_2 (g_1 and g_2 change places) and another blend

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, as FedAvg. Cost: GIN 1.02 and IPA 1.06 times FedAvg's
time; with ``consistency`` 3.0 and 3.1, for two further passes. Settings that matter: ``p``; ``consistency``, which is
part of the paper's method.

Released code: as here, a kernel size is drawn once a layer and batch, and the segmentation loss sees the first view
only. Its divergence is KL(y || y_v), and its third view a single GIN.

Deviations: the paper's images are standardised; here every image is standardised by its own mean and deviation over
valid pixels and all channels for the network and taken back afterwards, whatever ``data.normalise`` says. Norms count
valid pixels only; what is not valid counts as 0, like the padding, and keeps its values. The field interpolates normal
numbers by bicubics, the authors' by quadratic B-splines; both have a control point every quarter of a side and are
brought to [0, 1]. ``consistency`` is off by default, as it triples the time; the paper's weight is 10. Predictions are
compared at valid pixels, and a view is plain with probability 1 - p. As in the paper, a draw may leave little contrast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.consistency import ConsistentStyle
from fedlight.plugins.convolution import convolve_each, mix, require_odd
from fedlight.plugins.image_style import put_back
from fedlight.plugins.intensity import inside_of, standardised, valid_range


class RandomNetworkStyle(ConsistentStyle):
    """Styles that are made with small random networks, one an image."""

    def __init__(self, p: float, layers: int, width: int, kernel_sizes: Sequence[int], consistency: float) -> None:
        self.p = p
        self.layers = layers
        self.width = width
        self.kernel_sizes = kernel_sizes
        self.consistency = consistency

    def validate(self) -> None:
        super().validate()
        require_odd(self.kernel_sizes)
        for name, value in (("layers", self.layers), ("width", self.width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}. The paper has 4 layers of width 2.")

    def through_networks(self, images: Tensor, valid: Tensor) -> Tensor:
        """Sends every image through a network of its own: (n, C, H, W), float32."""
        plain, mean, std = standardised(images, valid)
        kernels, shifts = self._draw_networks(len(images), images.shape[1])
        alpha = torch.rand(len(images), generator=self.generator).to(images.device)
        layers = [kernel.to(images.device) for kernel in kernels], [shift.to(images.device) for shift in shifts]
        return gin(plain, *layers, alpha, inside_of(images, valid)) * std + mean

    def _draw_networks(self, n: int, channels: int) -> tuple[list[Tensor], list[Tensor]]:
        """Draws kernels (n, out, in, k, k) and shifts (n, out) of every layer."""
        widths = [channels, *[self.width] * (self.layers - 1), channels]
        sizes = [
            self.kernel_sizes[place]
            for place in torch.randint(len(self.kernel_sizes), (self.layers,), generator=self.generator).tolist()
        ]
        shapes = [(n, out, into, k, k) for into, out, k in zip(widths, widths[1:], sizes, strict=False)]
        kernels = [torch.randn(shape, generator=self.generator) for shape in shapes]
        return kernels, [torch.randn(shape[:2], generator=self.generator) for shape in shapes]


class GIN(RandomNetworkStyle):
    """Sends images through small random networks.

    Args:
        p: Probability that an image is changed; 0 gives FedAvg.
        layers: Convolutions of a network.
        width: Channels between them.
        kernel_sizes: Sides of kernels in pixels, odd; one is drawn a layer and batch.
        consistency: Weight of the disagreement of three views of an image, at the cost of two further passes; the
            paper uses 10.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self,
        p: float = 1.0,
        layers: int = 4,
        width: int = 2,
        kernel_sizes: Sequence[int] = (1, 3),
        consistency: float = 0.0,
    ) -> None:
        super().__init__(p, layers, width, kernel_sizes, consistency)

    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        return self.through_networks(images, valid)


class IPA(RandomNetworkStyle):
    """Sends images through two small random networks each, which share the places of an image out between them.

    Args:
        p: Probability that an image is changed; 0 gives FedAvg.
        layers: Convolutions of a network.
        width: Channels between them.
        kernel_sizes: Sides of kernels in pixels, odd; one is drawn a layer and batch.
        spacing: Distance of the field's control points as a share of an image's side, in (0, 1].
        consistency: Weight of the disagreement of three views of an image, at the cost of two further passes; the
            paper uses 10.
    """

    null: ClassVar[Mapping[str, Any]] = {"p": 0.0}

    def __init__(
        self,
        p: float = 1.0,
        layers: int = 4,
        width: int = 2,
        kernel_sizes: Sequence[int] = (1, 3),
        spacing: float = 0.25,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(p, layers, width, kernel_sizes, consistency)
        self.spacing = spacing

    def validate(self) -> None:
        super().validate()
        if not 0 < self.spacing <= 1:
            raise ValueError(f"spacing must be in (0, 1], got {self.spacing}. A quarter of a side is 0.25.")

    def restyled(self, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        first, second = (self.through_networks(images, valid) for _ in range(2))
        points = round(1 / self.spacing) + 1
        controls = torch.randn(len(images), 1, points, points, generator=self.generator).to(images.device)
        field = smooth_field(controls, (images.shape[-2], images.shape[-1]))
        self._swapped = mix_by(field, second, first)
        return mix_by(field, first, second)

    def further_views(self, batch: Batch, rows: Tensor) -> list[Tensor]:
        swapped = put_back(batch, rows, self._swapped) if len(rows) else batch["image"]
        return [swapped, self.restyle_some(batch, rows)]

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._swapped = torch.empty(0)
        return super().on_round_end(module)


def gin(x: Tensor, kernels: Sequence[Tensor], shifts: Sequence[Tensor], alpha: Tensor, inside: Tensor) -> Tensor:
    """Computes GIN for given draws.

    Args:
        x: (N, C, H, W), 0 where pixels do not count.
        kernels: Of every layer (N, out, in, k, k), k odd; the last layer has C outputs.
        shifts: Of every layer (N, out).
        alpha: (N,), the share of the network.
        inside: (N, 1, H, W), bool, which pixels count in the norms.

    Returns:
        (N, C, H, W), with the Frobenius norm that ``x`` has.
    """
    through = convolve_each(x, kernels[0], shifts[0])
    for kernel, shift in zip(kernels[1:], shifts[1:], strict=True):
        through = convolve_each(F.leaky_relu(through, 0.01), kernel, shift)
    mixed = mix(x, through, alpha)
    return mixed * (_norm(x * inside) / (_norm(mixed * inside) + 1e-5))


def _norm(x: Tensor) -> Tensor:
    """Returns the Frobenius norm of every image: (N, 1, 1, 1)."""
    return x.square().sum((1, 2, 3), keepdim=True).sqrt()


def smooth_field(controls: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolates control points (N, 1, m, m) to a field (N, 1, H, W) whose least value is 0 and greatest is 1."""
    field = F.interpolate(controls, size=size, mode="bicubic", align_corners=True)
    low, width = valid_range(field, torch.ones_like(field, dtype=torch.bool))
    return (field - low) / width.clamp_min(1e-6)


def mix_by(field: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Returns b first + (1 - b) second, b a field (N, 1, H, W)."""
    return field * first + (1 - field) * second
