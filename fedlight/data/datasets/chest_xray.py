"""Lungs in chest X-rays of three countries: Montgomery, Shenzhen and JSRT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fedlight.data.conversion.download import Download
from fedlight.data.conversion.masks import Above, Union
from fedlight.data.conversion.readings import Levels, Picture, Raw
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site

AGAIN = {"0117": "0113", "0166": "0162", "0170": "0162"}
"""Scans of Montgomery -> the first scan of the same patient, by the readings that come with the images."""

_JSRT_SIDE = 2048


@dataclass(frozen=True)
class ChestXray(Dataset):
    """Three sets, each a site; SOURCE has a folder for each of them, or for some.

    ::

        MontgomerySet/{CXR_png/MCUCXR_0001_0.png,ManualMask/{leftMask,rightMask}/MCUCXR_0001_0.png}
        ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png, or Shenzhen/..., or shenzhen/CXR_png/...
        mask/CHNCXR_0001_0_mask.png, anywhere below SOURCE: the masks are from elsewhere than the images
        JSRT/**/JPCLN001.IMG, and scratch/{fold1,fold2}/masks/{left lung,right lung}/JPCLN001.gif below SOURCE

    Names are those of several published readers; not checked against the distributed archives.
    """

    name: ClassVar[str] = "chest_xray"
    title: ClassVar[str] = "Lungs in chest X-rays (Montgomery, Shenzhen, JSRT)"
    channels: ClassVar[int] = 1
    group: ClassVar[str | None] = r"^MCUCXR_\d+|^.*$"
    licence: ClassVar[str] = (
        "Montgomery and Shenzhen are made available for research by the U.S. National Library of Medicine; the masks "
        "of Shenzhen are CC BY-NC-SA 4.0; JSRT and its masks (SCR) are for research, after a registration."
    )
    citation: ClassVar[tuple[str, ...]] = (
        "Montgomery and Shenzhen: Jaeger et al., Quantitative Imaging in Medicine and Surgery 2014",
        "Masks of Shenzhen: Stirenko et al., 2018, arXiv 1803.01199",
        "JSRT: Shiraishi et al., American Journal of Roentgenology 2000, doi 10.2214/ajr.174.1.1740071",
        "Masks of JSRT (SCR): van Ginneken et al., Medical Image Analysis 2006",
    )
    get: ClassVar[str] = "several owners, see fedlight data info chest_xray; JSRT and its masks want a registration."
    protocol: ClassVar[str] = (
        "There is no common one: papers train on one or two of the sets and score the third, at 256 to 512 pixels. SCR "
        "divides JSRT into two folds."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "The masks of the left and of the right lung are united.",
        "Images in colour become grey by their luminance. Raw JSRT files, big-endian numbers of 12 bits with the bones "
        "dark, are averaged two by two onto the grid of their masks, turned to bright bones and brought to 16 bits.",
        "Repeated scans of a patient of Montgomery (0113 and 0117; 0162, 0166 and 0170) begin with the number of the "
        "first one and count as one patient; elsewhere every image counts as one.",
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip",
            "54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424",
            "NLM-MontgomeryCXRSet",
            "Montgomery: made available to the research community by the U.S. National Library of Medicine",
        ),
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Both lungs are one class."""
        return ("background", "lung")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """One set is one site."""
        return (
            Site("montgomery", "Montgomery County, USA", (138,), "lhncbc.nlm.nih.gov (or --download)"),
            Site(
                "shenzhen",
                "Shenzhen, China",
                (566,),
                "lhncbc.nlm.nih.gov; masks kaggle.com/datasets/yoctoman/shcxr-lung-mask, with an account",
            ),
            Site("jsrt", "JSRT, Japan", (247,), "db.jsrt.or.jp; masks isi.uu.nl (SCR); both with a registration"),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads one of the sets."""
        readers = {"montgomery": _montgomery, "shenzhen": _shenzhen, "jsrt": _jsrt}
        yield from readers[site](source)


def _montgomery(source: Tree) -> Iterator[Record | LeftOut]:
    home = source.holding("ManualMask/leftMask")
    for path in home.folder("CXR_png").files("MCUCXR_*.png"):
        halves = [home.find(f"ManualMask/{side}Mask/{path.name}") for side in ("left", "right")]
        number = path.stem.split("_")[1]
        first = AGAIN.get(number, number)
        name = path.stem if first == number else f"MCUCXR_{first}_again_{path.stem.removeprefix('MCUCXR_')}"
        yield _case(name, f"MCUCXR_{first}", Picture(path, channels=1), halves)


def _shenzhen(source: Tree) -> Iterator[Record | LeftOut]:
    home = source.folder("ChinaSet_AllFiles", "Shenzhen").holding("CXR_png")
    masks = {path.stem.removesuffix("_mask"): path for path in source.files("CHNCXR_*_mask.png", deep=True)}
    for path in home.folder("CXR_png").files("CHNCXR_*.png"):
        yield _case(path.stem, path.stem, Picture(path, channels=1), [masks.get(path.stem)])


def _jsrt(source: Tree) -> Iterator[Record | LeftOut]:
    images = source.files("JPC*.IMG", deep=True)
    home = source.holding("scratch/fold1", "scr/scratch/fold1", "fold1").folder("scratch", "scr/scratch", ".")
    for path in images:
        found = [home.find(f"{fold}/masks/left lung/{path.stem}.gif") for fold in ("fold1", "fold2")]
        left = next((mask for mask in found if mask is not None), None)
        right = None if left is None else left.parent.with_name("right lung") / left.name
        yield _case(path.stem, path.stem, Raw(path, _JSRT_SIDE, bits=12), [left, right])


def _case(name: str, patient: str, image: Picture | Raw, masks: Sequence[Path | None]) -> Record | LeftOut:
    there = [path for path in masks if path is not None and path.exists()]
    if len(there) < len(masks):
        return LeftOut(name, NO_MASK)
    return Record(name, patient, image, Union(tuple(Above(Levels(path)) for path in there)))
