"""First settings for somebody's own folders, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from fedlight.assist.folder_look import Look

T = TypeVar("T")

MAX_CLASSES = 16
"""With more values, a mask is taken for one with soft edges."""

_MULTIPLE = 32  # halved five times without a rest, whatever the encoder
_WHOLE = 320  # pixels up to which an image is trained on as a whole
_PATCH, _BATCH = 256, 8
_STEPS, _FEW_ROUNDS, _MANY_ROUNDS = 1000, 20, 100
_KEPT = 0.7  # the share of cases that neither validation nor test takes


@dataclass(frozen=True, slots=True)
class Proposal(Generic[T]):
    """A value and why."""

    value: T
    reason: str


@dataclass(frozen=True, slots=True)
class Masks:
    """What the values of masks mean: a class index for every value, or a threshold."""

    values: Mapping[int, int] | None
    threshold: int | None
    classes: tuple[str, ...]


def held_out(look: Look) -> Proposal[str | None]:
    """Proposes the site that takes no part."""
    if len(look.cases) < 3:
        return Proposal(None, "with fewer than three sites nothing would be left to federate")
    site = min(look.cases, key=lambda site: (look.cases[site], site))
    return Proposal(site, f"it has the fewest cases ({look.cases[site]}), so training loses least")


def masks(look: Look) -> Proposal[Masks]:
    """Proposes what the values of masks mean."""
    shown = ", ".join(map(str, look.values[:6])) + (", ..." if len(look.values) > 6 else "")
    if len(look.values) > MAX_CLASSES:
        threshold = 32768 if look.deep else 128
        reason = f"masks have {len(look.values)} values ({shown}), as soft edges do"
        return Proposal(Masks(None, threshold, ("background", "foreground")), reason)
    if len(look.values) < 2:
        return Proposal(Masks({0: 0, 255: 1}, None, ("background", "foreground")), f"all masks are {shown}")
    names = ("foreground",) if len(look.values) == 2 else tuple(f"class{i}" for i in range(1, len(look.values)))
    mapping = {value: index for index, value in enumerate(look.values)}
    return Proposal(Masks(mapping, None, ("background", *names)), f"masks have the values {shown}")


def size(look: Look) -> Proposal[tuple[str, int]]:
    """Proposes ``image_size`` or ``patch_size``, in pixels."""
    if look.longest <= _WHOLE or look.shortest < _MULTIPLE:
        side = min(math.ceil(look.longest / _MULTIPLE) * _MULTIPLE, _WHOLE)
        return Proposal(("image_size", side), f"sides have {look.shortest} to {look.longest} pixels: whole images fit")
    side = min(_PATCH, look.shortest // _MULTIPLE * _MULTIPLE)
    reason = f"sides have {look.shortest} to {look.longest} pixels: patches keep the detail and fit the smallest image"
    return Proposal(("patch_size", side), reason)


def batch_size(look: Look, unseen: Sequence[str]) -> Proposal[int]:
    """Proposes a power of two of at most 8 that the smallest site can fill."""
    site, cases = min(_training(look, unseen).items(), key=lambda pair: pair[1])
    value = 2 ** int(math.log2(min(_BATCH, cases)))
    return Proposal(value, f"{site}, the smallest site, has about {cases} training cases; more needs more memory")


def local_steps(look: Look, unseen: Sequence[str], batch: int) -> Proposal[int]:
    """Proposes about one pass over a site of middle size."""
    cases = median(_training(look, unseen).values())
    return Proposal(max(2, min(50, math.ceil(cases / batch))), "about one pass over the data of a middle site")


def rounds(steps: int) -> Proposal[int]:
    """Proposes as many rounds as make about 1000 steps a site."""
    value = max(_FEW_ROUNDS, min(_MANY_ROUNDS, math.ceil(_STEPS / steps)))
    return Proposal(value, f"about {value * steps} steps a site; more if validation still rises at the end")


def _training(look: Look, unseen: Sequence[str]) -> dict[str, int]:
    return {site: max(1, int(cases * _KEPT)) for site, cases in look.cases.items() if site not in unseen}
