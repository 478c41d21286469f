"""Acquisition models: how the device of an institution turns a scene into an image, one function an effect."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fedlight.data.anatomy import grid
from fedlight.randomness import generator


@dataclass(frozen=True, slots=True)
class Device:
    """The device of an institution; the defaults change nothing.

    Attributes:
        gains: Sensitivity to red, green and blue.
        crosstalk: Share of each colour that is seen by the next one, in [0, 1].
        gamma: Exponent of the response; 1 is linear.
        contrast: Factor of the distance to the middle grey.
        brightness: Added after that.
        vignette: Loss of light in the corners, in [0, 1].
        tilt: Brighter to one side, darker to the other.
        blur: Standard deviation as a share of the image's side.
        noise: Standard deviation of the intensity.
        quality: Of JPEG compression, 1 to 95; 100 is none.
    """

    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crosstalk: float = 0.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    vignette: float = 0.0
    tilt: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    quality: int = 100


EFFECTS = 10


def device(seed: int, index: int, shift: float) -> Device:
    """Makes the device of the ``index``-th institution.

    The settings of the institutions follow an additive recurrence (Kronecker sequence) from a random start, which
    spreads few institutions over the whole range, and more of them between those.

    Args:
        seed: Of the federation.
        index: 0 for the first institution.
        shift: How far devices are from a perfect one; 0 gives every institution the same.
    """
    start = torch.rand(EFFECTS, generator=generator(seed, "devices"), dtype=torch.float64)
    steps = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19, 23, 29], dtype=torch.float64).sqrt()
    u = (shift * (2 * torch.frac(start + index * steps) - 1)).tolist()  # each in [-shift, shift]
    v = [(shift + value) / 2 for value in u]  # each in [0, shift]
    return Device(
        gains=(math.exp(0.35 * u[0]), math.exp(0.35 * u[1]), math.exp(0.35 * u[2])),
        crosstalk=min(1.0, 0.5 * v[3]),
        gamma=math.exp(0.6 * u[4]),
        contrast=math.exp(-0.5 * v[5]),
        brightness=0.1 * u[5],
        vignette=min(1.0, 0.5 * v[6]),
        tilt=0.2 * u[7],
        blur=0.012 * v[8],
        noise=0.04 * v[9],
        quality=100 if shift == 0 else max(1, round(95 - 50 * v[0])),
    )


def acquire(colour: Tensor, used: Device, random: torch.Generator) -> npt.NDArray[np.uint8]:
    """Takes an image of a scene.

    Args:
        colour: (3, H, W), float32, in [0, 1].
        used: The device.
        random: Source of its noise.

    Returns:
        (H, W, 3), uint8.
    """
    light = lit(colour, used.vignette, used.tilt)
    seen = blurred(responded(light, used.gains, used.crosstalk), used.blur)
    toned = (seen.clamp(0, 1) ** used.gamma - 0.5) * used.contrast + 0.5 + used.brightness
    noisy = toned + used.noise * torch.randn(toned.shape, generator=random)
    return compressed(noisy.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy(), used.quality)


def responded(colour: Tensor, gains: tuple[float, float, float], crosstalk: float) -> Tensor:
    """Mixes each colour with the next one and weights it; (3, H, W)."""
    mixed = (1 - crosstalk) * colour + crosstalk * colour.roll(1, 0)
    return mixed * torch.tensor(gains)[:, None, None]


def lit(colour: Tensor, vignette: float, tilt: float) -> Tensor:
    """Darkens the corners and one side; (3, H, W)."""
    y, x = grid(colour.shape[-1])
    return colour * (1 - vignette * (x * x + y * y) / 2) * (1 + tilt * x)


def blurred(colour: Tensor, blur: float) -> Tensor:
    """Blurs with a Gaussian whose standard deviation is a share of the side; (3, H, W)."""
    deviation = blur * colour.shape[-1]
    reach = min(math.ceil(3 * deviation), colour.shape[-1] - 1)
    if reach == 0:
        return colour
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    kernel = (weights / weights.sum()).expand(3, 1, 1, -1)  # (3, 1, 1, taps)
    rows = F.conv2d(F.pad(colour[None], (reach, reach, 0, 0), mode="replicate"), kernel, groups=3)
    return F.conv2d(F.pad(rows, (0, 0, reach, reach), mode="replicate"), kernel.mT, groups=3)[0]


def compressed(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Saves (H, W, 3) pixels as JPEG and reads them again; quality 100 leaves them alone."""
    if quality >= 100:
        return np.ascontiguousarray(image)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))
