"""Polyps in colonoscopy images of four sources: Kvasir-SEG, CVC-ClinicDB, CVC-ColonDB and ETIS-Larib."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fedlight.data.conversion.download import Download
from fedlight.data.conversion.masks import Above
from fedlight.data.conversion.readings import Levels, Picture
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site

_PICTURES = ("*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp")

SEQUENCES = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409, 429, 448, 467),
    *(479, 504, 529, 547, 572, 592),
)
"""The first frame of each of the 29 videos of CVC-ClinicDB."""


@dataclass(frozen=True)
class Polyps(Dataset):
    """Four sets, each a site; SOURCE has a folder for each of them, or for some.

    ::

        Kvasir-SEG/{images,masks}/cju0qkwl35piu0993l0dewei2.jpg
        CVC-ClinicDB/{Original,Ground Truth}/1.tif
        CVC-ColonDB/{images,masks}/1.png
        ETIS-LaribPolypDB/{ETIS-LaribPolypDB/1.tif,Ground Truth/p1.tif}

    Instead of "Original" and "Ground Truth" there may be images and masks, and PNG instead of TIFF, as in much used
    copies. Names are those of several published readers; not checked against the distributed archives.
    """

    name: ClassVar[str] = "polyps"
    title: ClassVar[str] = "Polyps (Kvasir-SEG, CVC-ClinicDB, CVC-ColonDB, ETIS-Larib)"
    group: ClassVar[str | None] = r"^video\d+|^.*$"
    licence: ClassVar[str] = (
        "Kvasir-SEG is free for research and teaching, by its authors; the other three are for research and want to be "
        "cited (recalled)."
    )
    citation: ClassVar[tuple[str, ...]] = (
        "Kvasir-SEG: Jha et al., MMM 2020, arXiv 1911.07069",
        "CVC-ClinicDB: Bernal et al., Computerized Medical Imaging and Graphics 2015",
        "CVC-ColonDB: Bernal et al., Pattern Recognition 2012, doi 10.1016/j.patcog.2012.03.002",
        "ETIS-Larib: Silva et al., Int. J. Computer Assisted Radiology and Surgery 2014",
    )
    get: ClassVar[str] = "four owners, see fedlight data info polyps; CVC-ColonDB wants a registration."
    protocol: ClassVar[str] = (
        "PraNet and its followers train on 900 images of Kvasir-SEG and 550 of CVC-ClinicDB and test on the rest and "
        "on CVC-ColonDB and ETIS-Larib, at 352 pixels; federated papers take each set as a client or hold one out."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Masks are foreground from a level of 128 on, which JPEG needs.",
        "The frames of a video of CVC-ClinicDB are one patient, by the published first frames of its 29 videos. Which "
        "frames of CVC-ColonDB (15 videos) and ETIS-Larib (34) belong together is not known here: each counts as a "
        "patient, so their validation cases resemble training cases.",
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://datasets.simula.no/downloads/kvasir-seg.zip",
            "03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7",
            "Kvasir-SEG",
            "Kvasir-SEG: no permission needed for academic and research purposes, by the README of its authors",
        ),
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """All polyps are one class."""
        return ("background", "polyp")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """One set is one site."""
        return (
            Site("kvasir", "Kvasir-SEG, Norway", (1000,), "datasets.simula.no/kvasir-seg (or --download)"),
            Site("cvc_clinic", "CVC-ClinicDB, Barcelona", (612,), "polyp.grand-challenge.org/CVCClinicDB"),
            Site("cvc_colon", "CVC-ColonDB", (380,), "pages.cvc.uab.es/CVC-Colon, with a registration"),
            Site("etis", "ETIS-Larib, Paris", (196,), "polyp.grand-challenge.org/EtisLarib"),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads one of the sets."""
        folder, images = {
            "kvasir": ("Kvasir-SEG", ("images",)),
            "cvc_clinic": ("CVC-ClinicDB", ("Original", "images")),
            "cvc_colon": ("CVC-ColonDB", ("images",)),
            "etis": ("ETIS-LaribPolypDB", ("ETIS-LaribPolypDB", "images")),
        }[site]
        masks = ("Ground Truth", "GroundTruth", "masks")
        home = source.folder(folder).holding(*masks)
        by_stem = {path.stem: path for path in home.folder(*masks).files(*_PICTURES)}
        for path in home.folder(*images).files(*_PICTURES):
            mask = by_stem.get(path.stem, by_stem.get(f"p{path.stem}"))
            if mask is None:
                yield LeftOut(path.stem, NO_MASK)
            else:
                yield _case(path, mask, site)


def _case(path: Path, mask: Path, site: str) -> Record:
    video = f"video{bisect_right(SEQUENCES, int(path.stem)):02}" if site == "cvc_clinic" else None
    name = path.stem if video is None else f"{video}_frame{int(path.stem):03}"
    return Record(name, video or name, Picture(path), Above(Levels(mask)))
