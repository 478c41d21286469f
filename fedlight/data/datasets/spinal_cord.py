"""Grey and white matter of the spinal cord in MR of four sites: the challenge of 2016."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedlight.data.conversion.masks import Lookup, Majority
from fedlight.data.conversion.readings import Voxels
from fedlight.data.conversion.record import LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.file_names import stem

_NUMBERS = {"ucl": 1, "epm": 2, "uhz": 3, "vdb": 4}


@dataclass(frozen=True)
class SpinalCord(Dataset):
    """Volumes of few slices; SOURCE holds the training archive, and perhaps the test archive, however unpacked.

    ::

        **/{site1-sc01-image.nii.gz,site1-sc01-mask-r1.nii.gz,...,site1-sc01-mask-r4.nii.gz}, and so site2 to site4

    Names are those of several published readers; not checked against the distributed archives.
    """

    name: ClassVar[str] = "spinal_cord"
    title: ClassVar[str] = "Spinal cord grey matter, four sites (SCGM)"
    channels: ClassVar[int] = 1
    volumes: ClassVar[bool] = True
    licence: ClassVar[str] = "the challenge's own, a licence.txt in its archive: read it."
    citation: ClassVar[tuple[str, ...]] = ("SCGM: Prados et al., NeuroImage 2017",)
    get: ClassVar[str] = "niftyweb.cs.ucl.ac.uk/challenge, with a registration; the page may be gone."
    protocol: ClassVar[str] = (
        "Papers on domain generalization hold out a site in turn, with the 40 training subjects, resampled to 0.25 mm "
        "and cropped to 128 pixels around the cord; they score against the majority of the raters."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "A voxel has the class that most of the four raters gave it, of equal numbers the first rater's among them: 1 "
        "grey matter, 2 white matter.",
        "No single rater is written as a second annotator: each is part of the majority, and would agree with it too "
        "well.",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Grey and white matter; together they are the cord."""
        return ("background", "grey matter", "white matter")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """Sites 1 to 4."""
        return (
            Site("ucl", "1, University College London", (10,)),
            Site("epm", "2, Polytechnique Montreal", (10,)),
            Site("uhz", "3, University Hospital Zurich", (10,)),
            Site("vdb", "4, Vanderbilt, Nashville", (10,)),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads the subjects of one site."""
        for path in source.files(f"site{_NUMBERS[site]}-sc*-image.nii.gz", deep=True):
            name = stem(path).removesuffix("-image")
            masks = [path.with_name(f"{name}-mask-r{rater}.nii.gz") for rater in range(1, 5)]
            if not all(mask.exists() for mask in masks):
                yield LeftOut(name, "not the masks of four raters; the challenge's test subjects have none")
                continue
            raters = [Lookup(Voxels(mask), {0: 0, 1: 1, 2: 2}) for mask in masks]
            yield Record(name, name, Voxels(path), Majority(tuple(raters)))
