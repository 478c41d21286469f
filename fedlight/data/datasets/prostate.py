"""Prostates in T2-weighted MR volumes of six sites, as SAML put them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedlight.data.conversion.masks import Above
from fedlight.data.conversion.readings import Voxels
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.file_names import stem

_FOLDERS = {
    "runmc": ("RUNMC",),
    "bmc": ("BMC",),
    "i2cvb": ("I2CVB", "HCRUDB"),
    "ucl": ("UCL",),
    "bidmc": ("BIDMC",),
    "hk": ("HK",),
}


@dataclass(frozen=True)
class Prostate(Dataset):
    """Volumes of 384 x 384 pixels a slice; SOURCE is the unpacked archive "Processed_data_nii".

    ::

        RUNMC/{Case00.nii.gz,Case00_segmentation.nii.gz}, and so BMC, I2CVB (or HCRUDB), UCL, BIDMC, HK

    Upper and lower case count as equal: the masks of BMC are called _Segmentation. Names are those of several published
    readers; not checked against the distributed archive.
    """

    name: ClassVar[str] = "prostate"
    title: ClassVar[str] = "Prostate MRI, six sites (SAML)"
    channels: ClassVar[int] = 1
    volumes: ClassVar[bool] = True
    licence: ClassVar[str] = (
        "none is stated with the archive; its sources are NCI-ISBI 2013, I2CVB and PROMISE12, each with its own terms."
    )
    citation: ClassVar[tuple[str, ...]] = (
        "SAML: Liu et al., MICCAI 2020, arXiv 2007.02035",
        "NCI-ISBI 2013 challenge: Bloch et al., The Cancer Imaging Archive 2015",
        "I2CVB: Lemaitre et al., Computers in Biology and Medicine 2015",
        "PROMISE12: Litjens et al., Medical Image Analysis 2014",
    )
    get: ClassVar[str] = (
        "liuquande.github.io/SAML, a link to Google Drive without a registration; by hand, as Google Drive asks back."
    )
    protocol: ClassVar[str] = (
        "Every site is held out in turn (SAML, FedDG), or every site is split and scored itself (HarmoFL). SAML feeds "
        "the slice with the one above and the one below at 384 pixels; data.context 1 is that."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Every value of a mask above 0 is prostate: zones have values of their own at some sites.",
        "Every volume counts as a patient.",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """The whole gland is one class."""
        return ("background", "prostate")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """Sites A to F of the paper, in its order."""
        return (
            Site("runmc", "A, Radboud, Nijmegen (NCI-ISBI)", (30,)),
            Site("bmc", "B, Boston Medical Center (NCI-ISBI)", (30,)),
            Site("i2cvb", "C, HCRUDB, Dijon (I2CVB)", (19,)),
            Site("ucl", "D, University College London (PROMISE12)", (13,)),
            Site("bidmc", "E, Beth Israel Deaconess, Boston (PROMISE12)", (12,)),
            Site("hk", "F, Haukeland, Bergen (PROMISE12)", (12,)),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads one folder."""
        names = _FOLDERS[site]
        home = source.holding(*names).folder(*names)
        for path in home.files("*.nii.gz"):
            name = stem(path)
            if name.lower().endswith("_segmentation"):
                continue
            mask = home.find(f"{name}_segmentation.nii.gz")
            if mask is None:
                yield LeftOut(name, NO_MASK)
            else:
                yield Record(name, name, Voxels(path), Above(Voxels(mask), 0.5))
