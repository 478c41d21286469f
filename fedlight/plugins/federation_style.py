"""Style normalisation: an image of an institution that took no part gets the style that sites have shared of theirs.

What plugins share for training says what the federation's images look like. The reference is the mean over the sites'
shares; an image is moved all the way to it, by a linear map of each of its channels, and what is not valid stays.

    amplitudes (AmplitudeMix, ELCFS):  x' = F^-1( F(x) A_ref / A_own ) in the window of low frequencies, phases are kept
    moments at the input (CCST, AdaIN): x' = sigma_ref (x - mu_own) / sigma_own + mu_ref

Sites have measured images of the training size. An image's own statistics are measured on tiles of that size, those
that show anything, and averaged: where training sees whole images there is one tile, and the image gets exactly the
reference. A larger image is filtered with the gain A_ref / A_own of the tiles' frequencies, in cycles a pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlight.plugins.amplitude import NO_PHASE, low_frequencies, spectrum_of
from fedlight.plugins.amplitude_bank import AmplitudeBank
from fedlight.plugins.client_plugin import ClientPlugin, Statistics
from fedlight.plugins.style import exchange_moments
from fedlight.plugins.style_bank import MomentBank
from fedlight.statistics import channel_moments
from fedlight.update import Shared

Size = tuple[int, int]


class FederationStyle(ABC):
    """What the images of a federation look like."""

    def put_on(self, images: Tensor, valid: Tensor) -> Tensor:
        """Returns images in this style: (N, C, H, W) and valid (N, H, W), bool, to (N, C, H, W)."""
        pairs = zip(images, valid, strict=True)
        return torch.stack([self._one(image, inside) if bool(inside.any()) else image for image, inside in pairs])

    @abstractmethod
    def _one(self, image: Tensor, valid: Tensor) -> Tensor:
        """Returns an image in this style: (C, H, W) and valid (H, W), True somewhere, to (C, H, W)."""


def federation_style(plugins: Sequence[ClientPlugin], shared: Shared, size: Size) -> FederationStyle | None:
    """Returns the style of a federation's images by the first plugin that has shared one, None where none has.

    Args:
        plugins: Of the run, in config order.
        shared: What the sites have shared, by instance id.
        size: (height, width) of a training image; zeros where images are trained on as they are.
    """
    for plugin in plugins:
        bank = shared.get(plugin.instance_id, {})
        if isinstance(plugin, AmplitudeBank) and (found := _ending(bank, "/amplitude")):
            return AmplitudeStyle(torch.stack(found).mean(0), size)
        if isinstance(plugin, MomentBank) and (found := _ending(bank, "/input")):
            return MomentStyle(torch.stack([_mean_style(style) for style in found]).mean(0), size)
    return None


def _ending(bank: Statistics, name: str) -> list[Tensor]:
    return [value.cpu() for key, value in sorted(bank.items()) if key.endswith(name)]


def _mean_style(style: Tensor) -> Tensor:
    """Returns a site's mean mu and sigma, (2, C), of (2, C) or (4, C), or of a bank of single images (n, 2, C)."""
    return style[:2] if style.ndim == 2 else style.mean(0)


@dataclass(frozen=True, slots=True)
class AmplitudeStyle(FederationStyle):
    """A style that is the amplitude of low frequencies.

    Attributes:
        reference: (C, 2b+1, b+1), divided by H W.
        size: (height, width) of the images that it was measured on.
    """

    reference: Tensor
    size: Size

    def _one(self, image: Tensor, valid: Tensor) -> Tensor:
        own = low_frequencies(spectrum_of(*tiles(image, valid, self.size)), self.reference.shape[-1] - 1)
        amplitude = own.abs().mean(0)
        gain = torch.where(amplitude > NO_PHASE, self.reference.to(image.device) / amplitude.clamp_min(NO_PHASE), 1)
        spectrum = spectrum_of(image[None], valid[None])[0] * gain_at(gain, _shape(image), self.size)
        filtered = torch.fft.irfft2(spectrum, s=_shape(image), norm="forward")
        return torch.where(valid, filtered.to(image.dtype), image)


@dataclass(frozen=True, slots=True)
class MomentStyle(FederationStyle):
    """A style that is mean and standard deviation of every channel.

    Attributes:
        reference: (2, C), mu and sigma.
        size: (height, width) of the images that it was measured on.
    """

    reference: Tensor
    size: Size

    def _one(self, image: Tensor, valid: Tensor) -> Tensor:
        mean, variance = channel_moments(*tiles(image, valid, self.size))  # (T, C, 1, 1)
        new_mean, new_std = self.reference.to(image.device)[:, None, :, None, None]  # (1, C, 1, 1)
        own = mean.mean(0, keepdim=True), variance.sqrt().mean(0, keepdim=True).square()
        return torch.where(valid, exchange_moments(image[None], *own, new_mean, new_std.square())[0], image)


def tiles(image: Tensor, valid: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Cuts an image into tiles that cover it and overlap as little as they can; a smaller image is padded.

    Args:
        image: (C, H, W).
        valid: (H, W), bool, True somewhere; padding is not.
        size: (height, width) of a tile; zeros make one of the whole image.

    Returns:
        Those with a valid pixel, (T, C, height, width), and their valid pixels, (T, height, width).
    """
    height, width = (side or whole for side, whole in zip(size, _shape(image), strict=True))
    missing = (0, max(width - image.shape[-1], 0), 0, max(height - image.shape[-2], 0))
    image, valid = F.pad(image, missing), F.pad(valid, missing)
    places = [(y, x) for y in _starts(image.shape[-2], height) for x in _starts(image.shape[-1], width)]
    inside = torch.stack([valid[y : y + height, x : x + width] for y, x in places])
    cut = torch.stack([image[:, y : y + height, x : x + width] for y, x in places])
    shown = inside.flatten(1).any(1)
    return cut[shown], inside[shown]


def _starts(length: int, tile: int) -> list[int]:
    count = -(-length // tile)
    return [round(number * (length - tile) / max(count - 1, 1)) for number in range(count)]


def gain_at(gain: Tensor, shape: Size, size: Size) -> Tensor:
    """Brings the gain of a tile's low frequencies to those of an image; linear between them, 1 beyond the window.

    Args:
        gain: (C, 2b+1, b+1), k_y from -b, at frequencies k / size.
        shape: (H, W) of the image.
        size: (height, width) of a tile; zeros stand for the image's own.

    Returns:
        (C, H, W // 2 + 1), for the image's ``rfft2``.
    """
    height, width = (side or whole for side, whole in zip(size, shape, strict=True))
    b = gain.shape[-1] - 1
    rows = torch.fft.fftfreq(shape[0], 1 / height, dtype=torch.float64) / (b + 1)
    columns = 2 * torch.fft.rfftfreq(shape[1], 1 / width, dtype=torch.float64) / (b + 1) - 1
    at = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (H, W // 2 + 1, 2)
    ringed = F.pad(gain.cpu().double(), (0, 1, 1, 1), value=1.0)  # not every accelerator has float64
    found = F.grid_sample(ringed[None], at[None], padding_mode="border", align_corners=True)
    return found[0].to(gain)


def _shape(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]
