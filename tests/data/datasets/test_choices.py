"""What data sets let their users choose."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from fedlight.data.conversion.prepare import Conversion
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset
from fedlight.data.datasets.fets import FeTS
from fedlight.data.datasets.fundus import Fundus
from fedlight.data.datasets.mnms import MnMs
from fedlight.data.datasets.polyps import SEQUENCES
from fedlight.data.datasets.riga_plus import RigaPlus
from fedlight.data.images import read_values
from fedlight.errors import ConfigError
from tests.data.datasets import layouts


@pytest.mark.parametrize(("target", "inside"), [("disc", (1, 2)), ("cup", (2,))])
def test_disc_and_cup_can_be_prepared_as_the_overlapping_regions_of_papers(
    target: str, inside: tuple[int, ...], tmp_path: Path
) -> None:
    """The disc is rim and cup together."""
    drawn = layouts.fundus(tmp_path / "source")
    dataset = Fundus(target=target)  # type: ignore[arg-type]
    Conversion(dataset, tmp_path / "source", tmp_path / "root", ("drishti_gs",), incomplete=True).run()
    assert dataset.classes == ("background", target)
    for (site, name), mask in drawn.masks.items():
        if site == "drishti_gs":
            written = read_values(tmp_path / "root" / site / "masks" / f"{name}.png")
            np.testing.assert_array_equal(written, np.where(np.isin(mask, inside), 255, 0))


def test_another_rater_can_be_the_first(tmp_path: Path) -> None:
    """After the sixth rater the first is the second annotator."""
    layouts.riga_plus(tmp_path / "source")
    site = ("magrabia",)
    for rater in (1, 6):
        root = tmp_path / f"root{rater}"
        Conversion(RigaPlus(rater=rater), tmp_path / "source", root, site).run()
    first, sixth = (
        {path.name: path.read_bytes() for path in (tmp_path / root).rglob("*.png") if path.parent.name == folder}
        for root, folder in (("root1", "masks"), ("root6", "masks_annotator2"))
    )
    assert first == sixth != {}


@pytest.mark.parametrize(
    ("target", "values"),
    [("whole", (0, 1, 1, 1)), ("core", (0, 1, 0, 1)), ("enhancing", (0, 0, 0, 1)), ("labels", (0, 1, 2, 3))],
)
def test_tumours_can_be_prepared_as_the_regions_that_are_scored(
    target: str, values: tuple[int, ...], tmp_path: Path
) -> None:
    """Necrotic core, edema and enhancing tumour are 1, 2, 4 in the files; core is 1 and 4, whole all three."""
    drawn = layouts.fets(tmp_path / "source")
    dataset = FeTS(target=target, modality="t1ce")  # type: ignore[arg-type]
    Conversion(dataset, tmp_path / "source", tmp_path / "root", ("p02",)).run()
    for (site, name), mask in drawn.masks.items():
        if site == "p02":
            written = np.asanyarray(nibabel.load(tmp_path / "root" / site / "masks" / f"{name}.nii.gz").dataobj)
            np.testing.assert_array_equal(written, np.array(values)[mask])
            image = np.asanyarray(nibabel.load(tmp_path / "root" / site / "images" / f"{name}.nii.gz").dataobj)
            np.testing.assert_array_equal(image, layouts.volume(f"{name} t1ce"))


def test_the_sites_of_fets_are_those_of_the_chosen_partition(tmp_path: Path) -> None:
    layouts.fets(tmp_path)
    home = tmp_path / "MICCAI_FeTS2022_TrainingData"
    (home / "partitioning_2.csv").write_text("Subject_ID,Partition_ID\nFeTS2022_0010,01\nFeTS2022_0011,33\n")
    one: Dataset = FeTS()
    other: Dataset = FeTS(partition=2)
    assert [site.name for site in one.sites(Tree(tmp_path))] == ["p01", "p02", "p15"]
    assert [(site.name, site.cases) for site in other.sites(Tree(tmp_path))] == [("p01", (1,)), ("p33", (1,))]


def test_a_centre_that_is_not_known_is_not_passed_over(tmp_path: Path) -> None:
    layouts.mnms(tmp_path / "source")
    (table,) = (tmp_path / "source" / "OpenDataset").glob("*.csv")
    table.write_text(table.read_text().replace("A5S0V9,x,X,5", "A5S0V9,x,X,6"))
    with pytest.raises(ConfigError) as caught:
        Conversion(MnMs(), tmp_path / "source", tmp_path / "root", incomplete=True).run()
    assert "looked for the centres 1 to 5" in caught.value.args[0]
    assert "which has 6" in caught.value.args[0]


def test_the_videos_of_cvc_clinic_are_29_in_rising_order() -> None:
    assert len(SEQUENCES) == 29
    assert SEQUENCES[0] == 1
    assert list(SEQUENCES) == sorted(set(SEQUENCES))
    assert SEQUENCES[-1] < 612
