"""Optic disc and cup in fundus photographs of four sources, as DoFE put them together and FedDG uses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fedlight.data.conversion.masks import Bands
from fedlight.data.conversion.readings import Levels, Picture
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.datasets.optic_nerve import CLASSES, HELP, ORDER, Target
from fedlight.data.federated import Stage

_FOLDERS = {"drishti_gs": "Domain1", "rim_one_r3": "Domain2", "refuge_train": "Domain3", "refuge_val": "Domain4"}
_SPLITS: dict[str, Stage] = {"train": "train", "test": "test"}


@dataclass(frozen=True)
class Fundus(Dataset):
    """Regions around the optic disc, 800 x 800 pixels; SOURCE is the unpacked archive of DoFE.

    ::

        Domain1/{train,test}/ROIs/{image,mask}/gdrishtiGS_002.png, and so Domain2, Domain3, Domain4

    Grey levels of masks: up to 50 the cup, up to 200 the disc around it, above 200 background; some masks are in
    colour. Names and levels are those of several published readers; not checked against the distributed archive.
    """

    target: Target = field(default="rim_cup", metadata={"help": HELP})

    name: ClassVar[str] = "fundus"
    title: ClassVar[str] = "Optic disc and cup, four sources (DoFE)"
    splits: ClassVar[bool] = True
    licence: ClassVar[str] = (
        "none is stated with the archive; Drishti-GS, RIM-ONE and REFUGE each have their own terms, for research."
    )
    citation: ClassVar[tuple[str, ...]] = (
        "DoFE: Wang et al., IEEE Trans. Med. Imaging 2020, arXiv 2010.06208",
        "Drishti-GS: Sivaswamy et al., ISBI 2014",
        "RIM-ONE r3: Fumero et al., CBMS 2011",
        "REFUGE: Orlando et al., Medical Image Analysis 2020, arXiv 1910.03667",
    )
    get: ClassVar[str] = (
        "the link to Google Drive in the README of github.com/emma-sjwang/Dofe, without a registration; by hand, as "
        "Google Drive asks back."
    )
    protocol: ClassVar[str] = (
        "Every source is held out in turn. DoFE and its followers train on the train parts of the other three at 256 "
        "pixels; FedDG (ELCFS) resizes to 384 and scores all of the held-out source. Disc and cup are scored as two "
        "overlapping regions: prepare with --target disc and with --target cup to compare."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Grey levels of masks up to 50 are cup, up to 200 rim (disc without cup), above 200 background; with --target "
        "disc, rim and cup are one class, with --target cup the rim is background.",
        "Every image counts as a patient.",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the chosen target."""
        return CLASSES[self.target]

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """One source is one site."""
        return (
            Site("drishti_gs", "Drishti-GS, Madurai", (101,)),
            Site("rim_one_r3", "RIM-ONE r3, Spain", (159,)),
            Site("refuge_train", "REFUGE training part, Zeiss Visucam", (400,)),
            Site("refuge_val", "REFUGE validation part, Canon CR-2", (400,)),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads one domain, its training part first."""
        domain = source.holding(_FOLDERS[site]).folder(_FOLDERS[site])
        for part, split in _SPLITS.items():
            home = domain.folder(f"{part}/ROIs", part)
            for path in home.folder("image").files("*.png"):
                mask = home.find(f"mask/{path.name}")
                if mask is None:
                    yield LeftOut(path.stem, NO_MASK)
                    continue
                bands = Bands(Levels(mask), (50, 200), ORDER[self.target])
                yield Record(path.stem, path.stem, Picture(path), bands, split=split)
