"""Optic disc and cup in fundus photographs of five sources with six raters: RIGA+."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from fedlight.data.conversion.download import Download
from fedlight.data.conversion.masks import Bands
from fedlight.data.conversion.readings import Levels, Picture
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import LayoutError, Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.datasets.optic_nerve import CLASSES, HELP, ORDER, Target
from fedlight.data.federated import Stage

_DOMAINS = {
    "binrushed": "BinRushed",
    "magrabia": "Magrabia",
    "messidor_base1": "MESSIDOR_Base1",
    "messidor_base2": "MESSIDOR_Base2",
    "messidor_base3": "MESSIDOR_Base3",
}
_SPLITS: tuple[tuple[str, Stage], ...] = (("train", "train"), ("test", "test"))


@dataclass(frozen=True)
class RigaPlus(Dataset):
    """Regions around the optic disc, 800 x 800 pixels; SOURCE is the unpacked archive RIGAPlus.zip.

    ::

        BinRushed_train.csv, BinRushed_test.csv, and so Magrabia, MESSIDOR_Base1, MESSIDOR_Base2, MESSIDOR_Base3
        MESSIDOR_Base1_unlabeled.csv and others, for what is no case

    The tables have the columns image and mask, paths below SOURCE. The name of a mask in a table lacks its rater:
    a.tif there is a-1.tif to a-6.tif on disk. Grey levels are 0 cup, 128 disc around it, 255 background. Names are
    those of a published reader; not checked against the distributed archive. Another data set of this name, Zenodo
    8009107, is not read.
    """

    target: Target = field(default="rim_cup", metadata={"help": HELP})
    rater: Literal[1, 2, 3, 4, 5, 6] = field(default=1, metadata={"help": "whose masks; the next rater is the second"})

    name: ClassVar[str] = "riga_plus"
    title: ClassVar[str] = "Optic disc and cup, five sources (RIGA+)"
    splits: ClassVar[bool] = True
    licence: ClassVar[str] = (
        "CC BY 4.0 for the Zenodo record (as catalogues have it); RIGA itself is CC BY-NC 4.0, and MESSIDOR is for "
        "research and wants to be cited."
    )
    citation: ClassVar[tuple[str, ...]] = (
        "RIGA+: Hu et al., MICCAI 2022 (DoCR), Zenodo doi 10.5281/zenodo.6325549",
        "RIGA: Almazroa et al., SPIE Medical Imaging 2018, doi 10.1117/12.2293584",
        "MESSIDOR: Decenciere et al., Image Analysis and Stereology 2014",
    )
    get: ClassVar[str] = "zenodo.org/records/6325549, or --download."
    protocol: ClassVar[str] = (
        "Papers train on BinRushed and Magrabia, or on one of them, and score the test parts of the three MESSIDOR "
        "bases at 512 pixels; disc and cup are scored as overlapping regions (prepare with --target)."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Grey levels of masks up to 63 are cup, up to 191 rim (disc without cup), above that background; with --target "
        "disc, rim and cup are one class, with --target cup the rim is background.",
        "Masks are those of one rater (--rater, 1 by default); the next one, or 1 after 6, is the second annotator.",
        "Every image counts as a patient.",
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://zenodo.org/records/6325549/files/RIGAPlus.zip",
            "f9fa96df2faa70852ccd4c73d0e79ed6eb258b5a37e72292f5efa3f81f195d20",
            "RIGAPlus",
            "RIGA+: CC BY 4.0",
        ),
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the chosen target."""
        return CLASSES[self.target]

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """The domains of the tables; how many cases each must have is not known for certain."""
        return (
            Site("binrushed", "BinRushed, Riyadh, about 195"),
            Site("magrabia", "Magrabia, about 95"),
            Site("messidor_base1", "MESSIDOR base 1, about 173"),
            Site("messidor_base2", "MESSIDOR base 2, about 148"),
            Site("messidor_base3", "MESSIDOR base 3, about 133"),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads the tables of one domain."""
        domain = _DOMAINS[site]
        home = source.holding(f"{domain}_train.csv")
        for part, split in _SPLITS:
            for image, mask in _rows(home.file(f"{domain}_{part}.csv")):
                yield self._case(home, image, mask, split)
        unlabeled = home.find(f"{domain}_unlabeled.csv")
        for image, _ in _rows(unlabeled) if unlabeled is not None else ():
            yield LeftOut(_name(image), "no mask in the distribution")

    def _case(self, home: Tree, image: str, mask: str, split: Stage) -> Record | LeftOut:
        name, picture = _name(image), home.find(image)
        first, second = (self._mask(home, mask, rater) for rater in (self.rater, self.rater % 6 + 1))
        if picture is None or first is None:
            return LeftOut(name, NO_MASK if picture is not None else "no image in this copy")
        return Record(name, name, Picture(picture), first, second=second, split=split)

    def _mask(self, home: Tree, name: str, rater: int) -> Bands | None:
        path = PurePosixPath(name)
        found = home.find(str(path.with_name(f"{path.stem}-{rater}{path.suffix}")))
        return None if found is None else Bands(Levels(found), (63, 191), ORDER[self.target])


def _rows(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if rows and "image" not in rows[0]:
        raise LayoutError(f"looked for the columns image, mask in {path}, which has {', '.join(rows[0])}")
    return [(row["image"].replace("\\", "/"), (row.get("mask") or "").replace("\\", "/")) for row in rows]


def _name(image: str) -> str:
    """Joins the parts of a path, as stems repeat between folders.

    >>> _name("RIGA/BinRushed/BinRushed1/image1.tif")
    'RIGA-BinRushed-BinRushed1-image1'
    """
    return "-".join(PurePosixPath(image).with_suffix("").parts)
