"""A case that is ready for training: its facts, and its pixels kept in memory or read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count

import numpy as np
import numpy.typing as npt

from fedlight.data.federated import Stage
from fedlight.data.findings import Finding, Findings
from fedlight.data.preparation import Normaliser, Preparation, histograms, moments, normaliser
from fedlight.data.source import CaseError, Decoded, Entry, Slices, Source


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured on a case as it was read, over valid pixels.

    Attributes:
        size: (height, width).
        bits: 8 or 16.
        mean: (C,), in [0, 1].
        deviation: (C,), in [0, 1].
        shares: (K,), the share of every class.
        digest: Equal for images with equal pixels.
        foreground: (S,), bool, which of its slices show foreground; S is 1 for an image.
        spacing: (y, x) of an image or (z, y, x) of a volume, z across slices, in mm; 1 where unknown.
        in_mm: Whether the spacing is known.
    """

    size: tuple[int, int]
    bits: int
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    digest: str
    foreground: npt.NDArray[np.bool_]
    spacing: tuple[float, ...]
    in_mm: bool

    @property
    def slices(self) -> int:
        """The number of slices; 1 for an image."""
        return len(self.foreground)

    @property
    def volume(self) -> bool:
        """Whether the case is a volume, which is scored as one."""
        return len(self.spacing) == 3

    @property
    def shape(self) -> str:
        """The size for a sentence: height x width, of a volume slices x height x width."""
        return "x".join(map(str, (self.slices, *self.size) if self.volume else self.size))

    @property
    def typical(self) -> int:
        """The slice to show: the one in the middle of those with foreground, or of all."""
        shown = np.flatnonzero(self.foreground if self.foreground.any() else ~self.foreground)
        return int(shown[len(shown) // 2])


@dataclass(frozen=True, slots=True)
class Case:
    """A case with its image on the network's grid and its mask as it was read: one slice, or those of a volume.

    Attributes:
        site: The institution.
        name: Unique at its site.
        group: The patient.
        facts: What was measured on it.
        normaliser: How its intensities are normalised; None leaves them in [0, 1].
        preparation: What happens to its image.
        source: Reads it again when it is not kept.
        kept: Of every slice the image on the network's grid, mask and valid pixels as read; None when they are read at
            every access.
        remarks: Pairs of a kind of finding and its detail.
    """

    site: str
    name: str
    group: str
    facts: Facts
    normaliser: Normaliser | None
    preparation: Preparation
    source: Source
    kept: Sequence[Decoded] | None
    remarks: Sequence[tuple[str, str]] = ()

    def load(self, index: int = 0) -> Decoded:
        """Returns the image on the network's grid, mask and valid pixels on the grid as read; do not modify them.

        Args:
            index: Of the slice; its neighbours are further channels of the image.
        """
        return self._joined(self._reader(), index)

    def load_all(self) -> list[Decoded]:
        """Returns all slices in order; see ``load``."""
        read = self._reader()
        parts = [read(index) for index in range(self.facts.slices)]
        return [self._joined(parts.__getitem__, index) for index in range(len(parts))]

    def _reader(self) -> Callable[[int], Decoded]:
        if self.kept is not None:
            return self.kept.__getitem__
        slices = self.source.open()
        return lambda index: on_grid(slices.read(index), self.preparation, slices.spacing)

    def _joined(self, read: Callable[[int], Decoded], index: int) -> Decoded:
        """A slice with its neighbours as channels, from the first to the last; beyond an end, the end is repeated."""
        middle, context = read(index), self.preparation.context
        if not context:
            return middle
        places = np.clip(np.arange(index - context, index + context + 1), 0, self.facts.slices - 1)
        images = [middle.image if place == index else read(int(place)).image for place in places]
        return middle._replace(image=np.concatenate(images, axis=2))

    def forget(self) -> Case:
        """Returns the case without its pixels."""
        return replace(self, kept=None)


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that is known about the data of all institutions.

    Attributes:
        cases: Institution -> split -> its cases, sorted by name. Cases that cannot be used are left out.
        findings: What is wrong with them.
    """

    cases: Mapping[str, Mapping[Stage, Sequence[Case]]]
    findings: Sequence[Finding]


def on_grid(decoded: Decoded, preparation: Preparation, spacing: tuple[float, ...]) -> Decoded:
    """Brings the image of a slice with a spacing, (..., y, x) in mm, to the network's grid."""
    return decoded._replace(image=preparation.place(decoded.image, spacing))


def make_case(site: str, entry: Entry, preparation: Preparation, classes: int) -> Case:
    """Reads a case and measures it.

    Raises:
        CaseError: If it cannot be used.
    """
    slices = entry.source.open()
    gauge, kept = Gauge(classes), []
    for index in range(len(slices)):
        decoded = slices.read(index)
        gauge.add(decoded)
        kept.append(on_grid(decoded, preparation, slices.spacing))
    scale = normaliser(preparation.normalise, gauge.counts)
    if scale is not None:
        scale = scale.repeated(2 * preparation.context + 1)
    facts = gauge.facts(slices)
    return Case(site, entry.name, entry.group, facts, scale, preparation, slices.source, kept, slices.remarks)


class Gauge:
    """Measures a case slice by slice.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((1, 1), np.int64)  # (C, levels), the histograms of what was added
        self._labels = np.zeros(classes, np.int64)
        self._foreground: list[bool] = []
        self._digest = hashlib.sha256()
        self._size, self._bits = (0, 0), 0

    def add(self, decoded: Decoded) -> None:
        """Takes the next slice."""
        labels = np.bincount(decoded.mask[decoded.valid], minlength=len(self._labels))
        self.counts = self.counts + histograms(decoded.image, decoded.valid)
        self._labels += labels
        self._foreground.append(bool(labels[1:].any()))
        self._digest.update(decoded.image.tobytes())
        self._size = (decoded.image.shape[0], decoded.image.shape[1])
        self._bits = decoded.image.dtype.itemsize * 8

    def facts(self, slices: Slices) -> Facts:
        """Returns what was measured on the slices of a case."""
        mean, deviation = moments(self.counts)
        return Facts(
            size=self._size,
            bits=self._bits,
            mean=mean,
            deviation=deviation,
            shares=self._labels / self._labels.sum(),
            digest=f"{self._size[0]} {self._digest.hexdigest()}",
            foreground=np.array(self._foreground),
            spacing=slices.spacing,
            in_mm=slices.in_mm,
        )


def make_cases(
    entries: Iterable[tuple[str, Entry]], preparation: Preparation, classes: int, findings: Findings
) -> Iterator[Case]:
    """Reads cases in parallel, in order; those that cannot be used become findings.

    Args:
        entries: Pairs of institution and entry.
        preparation: What happens to every image.
        classes: Number of classes.
        findings: Takes what is wrong.
    """

    def attempt(pair: tuple[str, Entry]) -> Case | CaseError:
        try:
            return make_case(pair[0], pair[1], preparation, classes)
        except CaseError as error:
            return error

    pairs = list(entries)
    with ThreadPoolExecutor(min(8, cpu_count() or 1)) as pool:
        for (site, _), result in zip(pairs, pool.map(attempt, pairs), strict=True):
            for kind, detail in result.remarks if isinstance(result, Case) else result.problems:
                findings.case(kind, site, detail)
            if isinstance(result, Case):
                yield result


def keep_within(cases: Iterable[Case], limit_gb: float, findings: Findings) -> list[Case]:
    """Keeps the pixels of as many cases as fit in memory; the others are read at every access.

    Args:
        cases: Cases with their pixels.
        limit_gb: How many gigabytes may be kept.
        findings: Takes one warning when the limit is reached.
    """
    result, total, kept = [], 0, 0
    for case in cases:
        parts = {id(part): part.nbytes for decoded in case.kept or () for part in decoded}  # slices may share one
        size = sum(parts.values())
        total += size
        fits = total <= limit_gb * 1e9
        kept += fits
        result.append(case if fits else case.forget())
    if kept < len(result):
        findings.warning(
            f"{kept} of {len(result)} cases fit into data.cache_gb {limit_gb:g}, the others are read again at every "
            f"access. To keep all of them in memory, set it to {total / 1e9 * 1.01:.2g}."
        )
    return result
