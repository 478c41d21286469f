"""Plain encoders: two 3x3 convolutions a stage, registered with segmentation_models_pytorch under ``plain-<width>``.

The first stage works at full resolution, so thin structures (vessels) reach the decoder without a detour through a
coarser grid. ``plain-16`` with its default decoder is a U-Net of half a million parameters.
"""

from __future__ import annotations

import segmentation_models_pytorch.encoders as smp_encoders
from torch import Tensor, nn

DEPTH = 4
NAMES = {f"plain-{width}": width for width in (8, 16, 32, 64)}


class PlainEncoder(nn.Module):
    """Stages of width w, 2w, 4w, ... at strides 1, 2, 4, ...; what segmentation_models_pytorch asks of an encoder.

    Args:
        width: Channels of the first stage.
        depth: Number of stages.
        output_stride: Accepted because every encoder is asked for it; without effect, see ``make_dilated``.
    """

    def __init__(self, width: int, depth: int = 4, output_stride: int = 32) -> None:
        super().__init__()
        self.out_channels = [3, *(width * 2**i for i in range(depth))]
        self.output_stride = 2 ** (depth - 1)
        self.stages = nn.ModuleList(
            _stage(self.out_channels[i], self.out_channels[i + 1], halve=i > 0) for i in range(depth)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns the images (N, C, H, W) and the features of every stage, (N, w 2^i, H / 2^i, W / 2^i)."""
        features = [images]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Gives the first convolution another number of input channels, with fresh weights."""
        if in_channels != self.out_channels[0]:
            self.out_channels = [in_channels, *self.out_channels[1:]]
            self.stages[0] = _stage(in_channels, self.out_channels[1], halve=False)

    def make_dilated(self, output_stride: int) -> None:
        """Leaves the strides as they are: 8 at depth 4 is as fine as any architecture asks for."""


def _stage(in_channels: int, out_channels: int, halve: bool) -> nn.Sequential:
    pool = [nn.MaxPool2d(2)] if halve else []
    return nn.Sequential(*pool, *_convolution(in_channels, out_channels), *_convolution(out_channels, out_channels))


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def decoder_channels(encoder: str, depth: int) -> tuple[int, ...]:
    """Returns the widths of a U-Net's decoder that mirror a plain encoder, coarse to fine.

    >>> decoder_channels("plain-16", 4)
    (64, 32, 16, 16)
    """
    width = NAMES[encoder]
    return (*(width * 2**i for i in reversed(range(depth - 1))), width)


def register() -> None:
    """Makes the plain encoders known to segmentation_models_pytorch; calling it again does nothing."""
    for name, width in NAMES.items():
        smp_encoders.encoders.setdefault(
            name, {"encoder": PlainEncoder, "params": {"width": width}, "pretrained_settings": {}}
        )
