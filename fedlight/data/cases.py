"""A case that is ready for training: its facts, and its pixels kept in memory or read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count

import numpy as np
import numpy.typing as npt

from fedlight.data.federated import Stage
from fedlight.data.findings import Finding, Findings
from fedlight.data.preparation import Normaliser, Preparation, histograms, letterbox, moments, normaliser
from fedlight.data.source import CaseError, Decoded, Entry, Source


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
    """

    size: tuple[int, int]
    bits: int
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    digest: str


@dataclass(frozen=True, slots=True)
class Case:
    """A case with its image on the network's grid and its mask as it was read.

    Attributes:
        site: The institution.
        name: Unique at its site.
        group: The patient.
        facts: What was measured on it.
        normaliser: How its intensities are normalised; None leaves them in [0, 1].
        preparation: What happens to its image.
        source: Reads it again when it is not kept.
        kept: The image on the network's grid, mask and valid pixels as read; None when they are read at every access.
    """

    site: str
    name: str
    group: str
    facts: Facts
    normaliser: Normaliser | None
    preparation: Preparation
    source: Source
    kept: Decoded | None

    def load(self) -> Decoded:
        """Returns the image on the network's grid, mask and valid pixels on the grid as read; do not modify them."""
        return self.kept if self.kept is not None else on_grid(self.source.read(), self.preparation)

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


def on_grid(decoded: Decoded, preparation: Preparation) -> Decoded:
    """Brings the image of a case to the network's grid."""
    if preparation.grid is None:
        return decoded
    return decoded._replace(image=letterbox(decoded.image, preparation.grid))


def make_case(site: str, entry: Entry, preparation: Preparation, classes: int) -> Case:
    """Reads a case and measures it.

    Raises:
        CaseError: If it cannot be used.
    """
    decoded = entry.source.read()
    counts = histograms(decoded.image, decoded.valid)
    facts = measure(decoded, counts, classes)
    scale = normaliser(preparation.normalise, counts)
    kept = on_grid(decoded, preparation)
    return Case(site, entry.name, entry.group, facts, scale, preparation, entry.source, kept)


def measure(decoded: Decoded, counts: npt.NDArray[np.int64], classes: int) -> Facts:
    """Measures a case; ``counts`` are the histograms of its image."""
    mean, deviation = moments(counts)
    labels = np.bincount(decoded.mask[decoded.valid], minlength=classes)
    height, width, _ = decoded.image.shape
    digest = hashlib.sha256(decoded.image.tobytes()).hexdigest()
    return Facts(
        (height, width), decoded.image.dtype.itemsize * 8, mean, deviation, labels / labels.sum(), f"{height} {digest}"
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
            if isinstance(result, Case):
                yield result
            else:
                for kind, detail in result.problems:
                    findings.case(kind, site, detail)


def keep_within(cases: Iterable[Case], limit_gb: float, findings: Findings) -> list[Case]:
    """Keeps the pixels of as many cases as fit in memory; the others are read at every access.

    Args:
        cases: Cases with their pixels.
        limit_gb: How many gigabytes may be kept.
        findings: Takes one warning when the limit is reached.
    """
    result, total, kept = [], 0, 0
    for case in cases:
        size = 0 if case.kept is None else sum(part.nbytes for part in case.kept)
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
