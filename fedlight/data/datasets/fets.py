"""Brain tumours in MR by institution: FeTS, which is BraTS with the institutions that the cases came from."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fedlight.data.conversion.masks import Lookup
from fedlight.data.conversion.readings import Voxels
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import LayoutError, Tree
from fedlight.data.datasets.dataset import Dataset, Site

_CLASSES: Mapping[str, tuple[str, ...]] = {
    "labels": ("background", "necrotic core", "edema", "enhancing tumour"),
    "whole": ("background", "whole tumour"),
    "core": ("background", "tumour core"),
    "enhancing": ("background", "enhancing tumour"),
}
_VALUES: Mapping[str, Mapping[int, int]] = {
    "labels": {0: 0, 1: 1, 2: 2, 4: 3},
    "whole": {0: 0, 1: 1, 2: 1, 4: 1},
    "core": {0: 0, 1: 1, 2: 0, 4: 1},
    "enhancing": {0: 0, 1: 0, 2: 0, 4: 1},
}


@dataclass(frozen=True)
class FeTS(Dataset):
    """One modality a case; SOURCE is the unpacked training archive of 2021 or 2022.

    ::

        partitioning_1.csv and partitioning_2.csv, with the columns Partition_ID and Subject_ID
        FeTS2022_01341/{FeTS2022_01341_flair.nii.gz,..._t1...,..._t1ce...,..._t2...,FeTS2022_01341_seg.nii.gz}

    The sites are those that the table names: 23 in partition 1 of 2022, 33 in partition 2, where large institutions are
    divided by tumour size. Names are those of the challenge's README; not checked against the distributed archive.
    """

    partition: Literal[1, 2] = field(default=1, metadata={"help": "1: institutions; 2: divided further by tumour size"})
    modality: Literal["flair", "t1", "t1ce", "t2"] = field(
        default="flair", metadata={"help": "which of the four volumes of a case, as an image has one channel"}
    )
    target: Literal["labels", "whole", "core", "enhancing"] = field(
        default="labels", metadata={"help": "labels: three classes; or one of the overlapping regions that are scored"}
    )

    name: ClassVar[str] = "fets"
    title: ClassVar[str] = "Brain tumours by institution (FeTS, BraTS)"
    channels: ClassVar[int] = 1
    volumes: ClassVar[bool] = True
    licence: ClassVar[str] = "the terms of the FeTS challenge on Synapse, after a registration."
    citation: ClassVar[tuple[str, ...]] = (
        "FeTS: Pati et al., 2021, arXiv 2105.05874",
        "BraTS: Baid et al., 2021, arXiv 2107.02314",
        "BraTS: Menze et al., IEEE Trans. Med. Imaging 2015",
    )
    get: ClassVar[str] = "synapse.org, syn28546456, with a registration and a request."
    protocol: ClassVar[str] = (
        "The challenge trains on all institutions of a partition with a 3-D network of four modalities and scores "
        "whole tumour, core and enhancing tumour as overlapping regions (prepare with --target); a network that sees "
        "slices of one modality is not comparable with it."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "One modality is the image (--modality). Labels 1, 2 and 4 become 1 necrotic core, 2 edema and 3 enhancing "
        "tumour; with --target they become one region: whole 1, 2 and 4, core 1 and 4, enhancing 4.",
        "Every case counts as a patient.",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the chosen target."""
        return _CLASSES[self.target]

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """The partitions that the table of a copy names; without a copy, those of partition 1 of 2022."""
        if source is None:
            return tuple(Site(f"p{number:02}", f"institution {number}") for number in range(1, 24))
        counts = Counter(self._partitions(source).values())
        return tuple(Site(name, f"partition {name[1:]}", (count,)) for name, count in sorted(counts.items()))

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads the cases that the table assigns to a partition."""
        home = self._home(source)
        for subject in sorted(subject for subject, name in self._partitions(source).items() if name == site):
            image, mask = (home.find(f"{subject}/{subject}_{part}.nii.gz") for part in (self.modality, "seg"))
            if image is None or mask is None:
                yield LeftOut(subject, NO_MASK if image is not None else "no image in this copy")
            else:
                yield Record(subject, subject, Voxels(image), Lookup(Voxels(mask), _VALUES[self.target]))

    def _home(self, source: Tree) -> Tree:
        return source.holding(f"partitioning_{self.partition}.csv")

    def _partitions(self, source: Tree) -> dict[str, str]:
        """Returns subject -> site."""
        path = self._home(source).file(f"partitioning_{self.partition}.csv")
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"Partition_ID", "Subject_ID"} <= rows[0].keys():
            raise LayoutError(f"looked for the columns Partition_ID, Subject_ID in {path}")
        return {row["Subject_ID"].strip(): _site(row["Partition_ID"]) for row in rows}


def _site(partition: str) -> str:
    """Returns the name of a site.

    >>> _site("7"), _site("07"), _site("1_2")
    ('p07', 'p07', 'p1_2')
    """
    number = partition.strip()
    return f"p{int(number):02}" if number.isdigit() else f"p{number}"
