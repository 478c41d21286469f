"""Heart ventricles in cine MR of five centres: M&Ms."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fedlight.data.conversion.masks import Lookup
from fedlight.data.conversion.readings import Voxels
from fedlight.data.conversion.record import LeftOut, Record
from fedlight.data.conversion.tree import LayoutError, Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.federated import Stage

_PARTS: Mapping[str, Stage] = {
    "Training/Labeled": "train",
    "Training/Unlabeled": "train",
    "Validation": "val",
    "Testing": "test",
}
_COLUMNS = {"External code", "Centre", "ED", "ES"}


@dataclass(frozen=True)
class MnMs(Dataset):
    """Sequences of volumes; SOURCE is the unpacked archive "OpenDataset".

    ::

        211230_M&Ms_Dataset_information_diagnosis_opendataset.csv, with the columns External code, Centre, ED, ES
        Training/Labeled/A0S9V9/{A0S9V9_sa.nii.gz,A0S9V9_sa_gt.nii.gz}, and so Training/Unlabeled, Validation, Testing

    Names are those of nnU-Net's converter and of another reader; not checked against the distributed archive. The
    numbers of patients are those of the challenge's table.
    """

    name: ClassVar[str] = "mnms"
    title: ClassVar[str] = "Heart ventricles in cine MR, five centres (M&Ms)"
    channels: ClassVar[int] = 1
    volumes: ClassVar[bool] = True
    group: ClassVar[str | None] = "^[^_]+"
    licence: ClassVar[str] = "a data use agreement of the Universitat de Barcelona, for research."
    citation: ClassVar[tuple[str, ...]] = (
        "M&Ms: Campello et al., IEEE Trans. Med. Imaging 2021, doi 10.1109/TMI.2021.3090082",
    )
    get: ClassVar[str] = "ub.edu/mnms, with a registration."
    protocol: ClassVar[str] = (
        "The challenge trains on vendors A and B (centres 1, 2 and 3) and tests on all four vendors; papers on domain "
        "generalization hold out a vendor in turn. Vendor B is two centres, which a federation keeps apart; sites here "
        "are centres, so hold out centre2 and centre3 together for vendor B."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Of every sequence, the volumes at end diastole (ED) and end systole (ES) are two cases of one patient.",
        "Masks are 1 left ventricle, 2 myocardium, 3 right ventricle (in ACDC it is the other way round).",
        "Affines are kept as they are, also those that are not orthonormal.",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the challenge."""
        return ("background", "left ventricle", "myocardium", "right ventricle")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """Centres; every patient with masks is two cases."""
        return (
            Site("centre1", "vendor A, Siemens", (190,)),
            Site("centre2", "vendor B, Philips", (148,)),
            Site("centre3", "vendor B, Philips", (102,)),
            Site("centre4", "vendor C, General Electric", (100,)),
            Site("centre5", "vendor D, Canon", (100,)),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads the patients that the table assigns to a centre."""
        home = source.holding("Training/Labeled")
        folders = {path: part for part in _PARTS for path in _patients(home, part)}
        rows = _table(home)
        for path, part in sorted(folders.items()):
            row = rows.get(path.name)
            if row is None:
                raise LayoutError(f"looked for {path.name} in the table of {home.path}, which does not name it")
            if f"centre{row['Centre']}" == site:
                yield from _moments(path, row, _PARTS[part])


def _patients(home: Tree, part: str) -> list[Path]:
    folder = home.find(part)
    return [path for path in (folder.iterdir() if folder is not None else ()) if path.is_dir()]


def _table(home: Tree) -> dict[str, dict[str, str]]:
    (path, *_) = home.files("*opendataset*.csv", "*M&Ms*.csv")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not rows[0].keys() >= _COLUMNS:
        raise LayoutError(f"looked for the columns {', '.join(sorted(_COLUMNS))} in {path}")
    if other := {row["Centre"] for row in rows} - {str(number) for number in range(1, 6)}:
        raise LayoutError(f"looked for the centres 1 to 5 in {path}, which has {', '.join(sorted(other))}")
    return {row["External code"]: row for row in rows}


def _moments(folder: Path, row: Mapping[str, str], split: Stage) -> Iterator[Record | LeftOut]:
    name = folder.name
    image, mask = folder / f"{name}_sa.nii.gz", folder / f"{name}_sa_gt.nii.gz"
    if not mask.exists():
        yield LeftOut(name, "no mask in the distribution")
        return
    for moment in ("ED", "ES"):
        frame = int(row[moment])
        labels = Lookup(Voxels(mask, frame), {index: index for index in range(4)})
        yield Record(f"{name}_{moment}", name, Voxels(image, frame), labels, split=split)
