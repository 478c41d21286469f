"""Anatomy-like scenes, drawn with soft shapes on a grid from -1 to 1: what a perfect device would see."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Anatomy = Literal["fundus", "vessels", "organs"]

CLASSES: dict[Anatomy, tuple[str, ...]] = {
    "fundus": ("background", "disc", "cup"),
    "vessels": ("background", "vessel"),
    "organs": ("background", "liver", "spleen", "kidney"),
}
"""Names of the classes of every anatomy; "disc" is the rim around the cup."""

FIELD = 0.95
"""Radius of the field of view of a fundus camera."""


class Scene(NamedTuple):
    """What a perfect device would see."""

    colour: Tensor  # (3, H, W), float32, in [0, 1]
    mask: Tensor  # (H, W), uint8, class index
    valid: Tensor  # (H, W), bool


def draw(anatomy: Anatomy, size: int, random: torch.Generator) -> Scene:
    """Draws a scene of ``size`` x ``size`` pixels."""
    return {"fundus": _fundus, "vessels": _vessels, "organs": _organs}[anatomy](size, random)


def uniform(low: float, high: float, random: torch.Generator) -> float:
    """Draws a number between two others."""
    return low + (high - low) * float(torch.rand((), generator=random))


def grid(size: int) -> tuple[Tensor, Tensor]:
    """Returns y and x of the pixel centres, both (size, size), from -1 to 1."""
    centres = (torch.arange(size) * 2 + 1) / size - 1
    return centres[:, None].expand(size, size), centres[None, :].expand(size, size)


def mottle(size: int, cells: int, random: torch.Generator) -> Tensor:
    """Draws a smooth random field, (size, size), about -1 to 1, with ``cells`` bumps along a side."""
    coarse = torch.randn(1, 1, cells, cells, generator=random)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0, 0].div(2)


def _fundus(size: int, random: torch.Generator) -> Scene:
    centre = uniform(-0.35, 0.35, random), uniform(-0.35, 0.35, random)
    radius = uniform(0.36, 0.5, random)
    disc = _ellipse(size, centre, radius, uniform(0.9, 1.1, random))
    cup = _ellipse(size, centre, radius * uniform(0.45, 0.7, random), uniform(0.9, 1.1, random))
    colour = _paint(_retina(size, random), _edge(disc, size), (0.9, 0.66, 0.38))
    colour = _paint(colour, _edge(cup, size), (1.0, 0.93, 0.8))
    colour = _paint(colour, 0.7 * _tree(size, centre, random), (0.4, 0.1, 0.06))
    mask = (disc > 0).to(torch.uint8) + (cup > 0).to(torch.uint8)
    return _in_field(colour, mask)


def _vessels(size: int, random: torch.Generator) -> Scene:
    root = uniform(-0.6, 0.6, random), uniform(-0.3, 0.3, random)
    tree = _tree(size, root, random)
    return _in_field(_paint(_retina(size, random), 0.85 * tree, (0.36, 0.1, 0.06)), (tree > 0.5).to(torch.uint8))


def _organs(size: int, random: torch.Generator) -> Scene:
    y, x = grid(size)
    body = 1 - torch.sqrt((x / 0.92) ** 2 + (y / 0.8) ** 2)
    colour = _paint(torch.zeros(3, size, size), _edge(body, size), (0.42, 0.42, 0.42))
    mask = torch.zeros(size, size, dtype=torch.uint8)
    for label, (cy, cx, radius, grey) in enumerate(_ORGANS, start=1):
        place = cy + uniform(-0.1, 0.1, random), cx + uniform(-0.1, 0.1, random)
        organ = _ellipse(size, place, radius * uniform(0.85, 1.15, random), uniform(0.75, 1.3, random))
        colour = _paint(colour, _edge(organ, size), (grey, grey, grey))
        mask = torch.where(organ > 0, label, mask)
    texture = 1 + 0.12 * mottle(size, 9, random)
    return Scene((colour * texture).clamp(0, 1), mask.to(torch.uint8), torch.ones(size, size, dtype=torch.bool))


_ORGANS = ((-0.1, -0.42, 0.34, 0.62), (-0.2, 0.5, 0.22, 0.78), (0.38, 0.25, 0.2, 0.92))
"""Liver, spleen and kidney: y, x, radius, grey level."""


def _retina(size: int, random: torch.Generator) -> Tensor:
    base = torch.tensor([0.62, 0.33, 0.17])[:, None, None]  # (3, 1, 1)
    tone = 1 + 0.16 * mottle(size, 5, random) + 0.08 * mottle(size, 12, random)
    colour = base * tone  # (3, H, W)
    for _ in range(int(torch.randint(0, 5, (), generator=random))):
        place = uniform(-0.7, 0.7, random), uniform(-0.7, 0.7, random)
        spot = _ellipse(size, place, uniform(0.04, 0.1, random), 1.0)
        colour = _paint(colour, 0.8 * _edge(spot, size), (0.86, 0.66, 0.36))
    return colour


def _in_field(colour: Tensor, mask: Tensor) -> Scene:
    y, x = grid(mask.shape[0])
    valid = torch.hypot(y, x) <= FIELD
    return Scene((colour * valid).clamp(0, 1), mask * valid, valid)


def _tree(size: int, root: tuple[float, float], random: torch.Generator) -> Tensor:
    """Draws vessels that leave a root, each with a branch; (size, size), 1 inside."""
    covered = torch.zeros(size, size)
    count, first = 6, uniform(0, 2 * math.pi, random)
    for k in range(count):
        angle = first + 2 * math.pi * k / count + uniform(-0.4, 0.4, random)
        width = uniform(0.035, 0.06, random)
        path = _walk(root, angle, random)
        branch = _walk((float(path[4, 0]), float(path[4, 1])), angle + uniform(0.5, 0.9, random), random)
        covered = torch.maximum(covered, _edge(width - _distance(path, size), size))
        covered = torch.maximum(covered, _edge(0.7 * width - _distance(branch, size), size))
    return covered


def _walk(start: tuple[float, float], angle: float, random: torch.Generator) -> Tensor:
    """Returns the corners of a bent path, (12, 2), y and x."""
    turns = angle + torch.cumsum(0.22 * torch.randn(11, generator=random), 0)
    steps = 0.16 * torch.stack([torch.sin(turns), torch.cos(turns)], 1)  # (11, 2)
    return torch.cat([torch.zeros(1, 2), torch.cumsum(steps, 0)]) + torch.tensor(start)


def _distance(path: Tensor, size: int) -> Tensor:
    """Returns the distance of every pixel to a path of straight pieces, (size, size)."""
    y, x = grid(size)
    top, left = path[:-1, :, None, None].unbind(1)  # both (11, 1, 1)
    down, right = (path[1:] - path[:-1])[:, :, None, None].unbind(1)
    along = ((y - top) * down + (x - left) * right).div_(down * down + right * right).clamp_(0, 1)  # (11, H, W)
    squared = (y - top - along * down).square_() + (x - left - along * right).square_()
    return squared.amin(0).sqrt_()


def _ellipse(size: int, centre: tuple[float, float], radius: float, aspect: float) -> Tensor:
    """Returns the signed distance to an ellipse, about, (size, size); above 0 inside."""
    y, x = grid(size)
    return radius - torch.hypot((y - centre[0]) * aspect, (x - centre[1]) / aspect)


def _edge(distance: Tensor, size: int) -> Tensor:
    """Turns signed distances into coverage in [0, 1] with an edge of one pixel."""
    return (0.5 + distance * size / 2).clamp(0, 1)


def _paint(colour: Tensor, coverage: Tensor, paint: tuple[float, float, float]) -> Tensor:
    return colour + coverage * (torch.tensor(paint)[:, None, None] - colour)
