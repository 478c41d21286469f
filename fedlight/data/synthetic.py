"""Synthetic institutions: anatomy-like scenes, seen through a different device at each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedlight.data.acquisition import acquire, device
from fedlight.data.anatomy import CLASSES, Anatomy, draw
from fedlight.data.case_sites import CaseSites
from fedlight.data.findings import Findings
from fedlight.data.preparation import Normalise, Preparation
from fedlight.data.source import Decoded, Entry, Source
from fedlight.data.splits import Fractions, Split, split
from fedlight.data.transforms import TransformConfig
from fedlight.data_format import DataFormat
from fedlight.randomness import generator


@dataclass(frozen=True, slots=True)
class GeneratedSource(Source):
    """Draws a case; the same numbers give the same case.

    Attributes:
        anatomy: What is drawn.
        size: Side of the image in pixels.
        seed: Of the federation.
        site: Index of the institution.
        index: Index of the case.
        shift: How far devices are from a perfect one.
    """

    anatomy: Anatomy
    size: int
    seed: int
    site: int
    index: int
    shift: float

    def read(self) -> Decoded:
        """Draws the scene and takes its image."""
        scene = draw(self.anatomy, self.size, generator(self.seed, "scene", self.site, self.index))
        used = device(self.seed, self.site, self.shift)
        image = acquire(scene.colour, used, generator(self.seed, "noise", self.site, self.index))
        return Decoded(image, scene.mask.numpy(), scene.valid.numpy())


class SyntheticSites(CaseSites):
    """Institutions ``site1``, ``site2``, ... with anatomy-like images that are generated in memory.

    Every institution has its own acquisition model: colour response, gamma, contrast, vignetting, bias field, blur,
    noise and compression. The anatomy has the same distribution everywhere, so all differences are those of devices.

    Args:
        num_sites: Number of institutions.
        held_out: Institution that takes no part in training, or several; all their cases are for testing.
        pooled: Train one client on the data of all training institutions.
        cases: Cases of every institution, or one number an institution.
        image_size: Side of the images in pixels.
        anatomy: fundus (optic disc and cup), vessels (retinal vessels) or organs (liver, spleen and kidney).
        shift: How far the devices are from a perfect one, and so from each other; 0 makes all institutions alike.
        batch_size: Samples in a batch.
        transforms: Random albumentations transforms of training samples: class names, or class_path and init_args.
        val_fraction: Share of an institution's cases for validation, at least one.
        test_fraction: Share of an institution's cases for testing, at least one; 0 for none.
        normalise: Intensities of every image: none (0 to 1), z-score, or percentile (1st to 99th to 0 to 1).
        seed: Another seed, other images, devices and splits.
        num_workers: Worker processes that prepare batches; 0 prepares them in the training process.
    """

    def __init__(
        self,
        num_sites: int = 4,
        held_out: list[str] | str | None = None,
        pooled: bool = False,
        cases: int | list[int] = 24,
        image_size: int = 64,
        anatomy: Anatomy = "fundus",
        shift: float = 1.0,
        batch_size: int = 8,
        transforms: Sequence[TransformConfig] = (),
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        normalise: Normalise = "none",
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(held_out, pooled, batch_size, transforms, 0.0, CACHE_GB, num_workers)
        self.num_sites = num_sites
        self.cases = cases
        self.image_size = image_size
        self.anatomy: Anatomy = anatomy
        self.shift = shift
        self.fractions = Fractions(val_fraction, test_fraction, seed)
        self.normalise: Normalise = normalise
        self.seed = seed

    @property
    def format(self) -> DataFormat:
        """What images and masks are like; known without reading them."""
        return DataFormat(CLASSES[self.anatomy], 3, (self.image_size, self.image_size))

    @property
    def preparation(self) -> Preparation:
        """What happens to every image; images are generated on the network's grid."""
        return Preparation(3, None, None, self.normalise)

    def catalogue(self, findings: Findings) -> Mapping[str, Sequence[Entry]]:
        """Lists the cases of every institution."""
        if not self._possible(findings):
            return {}
        counts = [self.cases] * self.num_sites if isinstance(self.cases, int) else self.cases
        return {f"site{site + 1:0{len(str(len(counts)))}d}": self._entries(site, n) for site, n in enumerate(counts)}

    def split(self, entries: Mapping[str, Sequence[Entry]], findings: Findings) -> Mapping[str, Split]:
        """Splits the cases of the training institutions."""
        self.fractions.check(findings)
        return {site: split(site, members, self.fractions, findings) for site, members in entries.items()}

    def _entries(self, site: int, count: int) -> list[Entry]:
        names = [f"case{index + 1:0{len(str(count))}d}" for index in range(count)]
        sources = [
            GeneratedSource(self.anatomy, self.image_size, self.seed, site, index, self.shift) for index in range(count)
        ]
        return [Entry(name, name, source) for name, source in zip(names, sources, strict=True)]

    def _possible(self, findings: Findings) -> bool:
        before = len(findings.whole)
        if isinstance(self.cases, list) and len(self.cases) != self.num_sites:
            findings.error(f"data.cases has {len(self.cases)} numbers for {self.num_sites} sites. Give one a site.")
        if self.num_sites < 1 + len(self.held_out_sites):
            findings.error(f"data.num_sites is {self.num_sites}: at least one site must train. Try 4.")
        if self.image_size < SMALLEST:
            findings.error(
                f"data.image_size is {self.image_size}: at least {SMALLEST} pixels show the anatomy. Try 64."
            )
        if self.shift < 0:
            findings.error(f"data.shift is {self.shift:g}: it is 0 (all sites alike) or more. Try 1.")
        return len(findings.whole) == before


CACHE_GB = 4.0
"""Gigabytes of generated images that are kept; cases beyond are generated at every access."""

SMALLEST = 16
"""Pixels along a side below which the anatomy vanishes."""
