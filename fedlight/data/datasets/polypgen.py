"""Polyps in colonoscopy images of six centres: PolypGen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedlight.data.conversion.masks import Above
from fedlight.data.conversion.readings import Levels, Picture
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site

_CASES = (256, 301, 457, 227, 208, 88)


@dataclass(frozen=True)
class PolypGen(Dataset):
    """Single frames; SOURCE is the unpacked archive "PolypGen2021_MultiCenterData_v3".

    ::

        data_C1/{images_C1/100H0050.jpg,masks_C1/100H0050_mask.jpg}, and so data_C2 to data_C6

    Of one image of C3 the name ends in an underscore that the name of its mask lacks. The folders of sequences are not
    read. Names are those of a published reader whose authors looked into the archive; not checked here.
    """

    name: ClassVar[str] = "polypgen"
    title: ClassVar[str] = "Polyps, six centres (PolypGen)"
    licence: ClassVar[str] = "CC BY 4.0 (seen in third-party descriptions)."
    citation: ClassVar[tuple[str, ...]] = (
        "PolypGen: Ali et al., Scientific Data 2023, doi 10.1038/s41597-023-01981-y",
    )
    get: ClassVar[str] = "synapse.org, syn26376615, with a free account and its token."
    protocol: ClassVar[str] = (
        "The EndoCV2021 challenge trains on five centres and scores the sixth; federated papers take each centre as a "
        "client or hold one out."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Masks are JPEG: foreground from a level of 128 on. Some are empty, as their frames show no polyp.",
        "Which frames are of one patient is not distributed: every frame counts as a patient.",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """All polyps are one class."""
        return ("background", "polyp")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """The centres by their numbers."""
        return tuple(Site(f"c{number}", f"centre {number}", (cases,)) for number, cases in enumerate(_CASES, start=1))

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads one centre."""
        centre = site.upper()
        home = source.holding(f"data_{centre}").folder(f"data_{centre}")
        masks = {path.stem.lower(): path for path in home.folder(f"masks_{centre}").files("*_mask.jpg")}
        for path in home.folder(f"images_{centre}").files("*.jpg"):
            name = path.stem.lower()
            mask = masks.get(f"{name}_mask", masks.get(f"{name.rstrip('_')}_mask"))
            if mask is None:
                yield LeftOut(path.stem, NO_MASK)
            else:
                yield Record(path.stem, path.stem, Picture(path), Above(Levels(mask)))
