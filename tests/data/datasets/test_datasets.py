"""Every data set: its official layout in miniature becomes sites that can be trained on, voxel for voxel."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from fedlight.__main__ import main
from fedlight.arguments import data_of
from fedlight.data.case_sites import CaseSites
from fedlight.data.conversion.prepare import Conversion, Outcome
from fedlight.data.datasets import DATASETS, Dataset
from fedlight.data.images import read_image, read_values
from tests.data.datasets.layouts import LAYOUTS, Drawn

CONFIGS = Path(__file__).parents[3] / "configs" / "datasets"


@pytest.fixture(scope="module", params=DATASETS)
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, Drawn, Outcome]:
    """A data set, what its layout shows and what became of it."""
    dataset = DATASETS[request.param]()
    source, root = (tmp_path_factory.mktemp(request.param) / name for name in ("source", "root"))
    drawn = LAYOUTS[dataset.name](source)
    return dataset, drawn, Conversion(dataset, source, root, incomplete=True).run()


def sites_of(dataset: Dataset, root: Path, *changes: str) -> CaseSites:
    """The data of the config of a data set, on a small grid, with few cases and nobody held out."""
    sizes = ["--data.image_size", "16", "--data.patch_size", "null", "--data.spacing", "null"]
    few = ["--data.held_out", "null", "--data.test_fraction", "0", "--data.root", str(root)]
    return data_of([CONFIGS / f"{dataset.name}.yaml"], [*sizes, *few, *changes])


def read(root: Path, site: str, folder: str, name: str) -> npt.NDArray[Any]:
    """Reads what was written: of pictures the values of a mask, of volumes the voxels."""
    (path,) = (root / site / folder).glob(f"{name}.*")
    return np.asanyarray(nibabel.load(path).dataobj) if path.suffix == ".gz" else read_values(path)


def test_masks_are_what_was_drawn(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    dataset, drawn, outcome = prepared
    scale = 255 if len(dataset.classes) == 2 and not dataset.volumes else 1
    for folder, masks in (("masks", drawn.masks), ("masks_annotator2", drawn.second)):
        for (site, name), mask in masks.items():
            np.testing.assert_array_equal(read(outcome.journal.root, site, folder, name), mask * np.uint8(scale))
    found = outcome.journal.root.glob("*/masks_annotator2/*")
    assert {(path.parts[-3], path.name.split(".")[0]) for path in found} == drawn.second.keys()


def test_images_are_what_was_drawn(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    dataset, drawn, outcome = prepared
    assert drawn.images
    for (site, name), image in drawn.images.items():
        if dataset.volumes:
            np.testing.assert_array_equal(read(outcome.journal.root, site, "images", name), image)
        else:
            path = outcome.journal.root / site / "images" / f"{name}.png"
            np.testing.assert_array_equal(read_image(path, dataset.channels), image)


def test_the_sites_can_be_trained_on(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    """By the config; cases, patients and the area of every class are those that were drawn."""
    dataset, drawn, outcome = prepared
    data = sites_of(dataset, outcome.journal.root)
    data.prepare()
    cases = {
        (site, case.name): case
        for site, splits in data.survey().cases.items()
        for members in splits.values()
        for case in members
    }
    assert cases.keys() == drawn.masks.keys()
    for place, case in cases.items():
        assert case.group == drawn.patients.get(place, place[1])
        slices = case.source.open()
        masks = [slices.read(index).mask for index in range(len(slices))]
        areas = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=len(dataset.classes))
        np.testing.assert_array_equal(areas, np.bincount(drawn.masks[place].ravel(), minlength=len(dataset.classes)))


def test_the_owners_split_is_kept_and_can_be_used(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    dataset, drawn, outcome = prepared
    root = outcome.journal.root
    rows = list(csv.DictReader((root / "cases.csv").read_text().splitlines()))
    assert {(row["site"], row["case"]): row["split"] for row in rows if row["split"]} == drawn.splits
    assert (root / "splits.csv").exists() == dataset.splits
    if dataset.splits:
        data = sites_of(dataset, root, "--data.splits", str(root / "splits.csv"))
        data.prepare()
        for site, splits in data.survey().cases.items():
            test = {(site, case.name) for case in splits["test"]}
            assert test == {place for place, split in drawn.splits.items() if split == "test" and place[0] == site}
            assert splits["val"]


def test_what_is_no_case_is_said(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    _, drawn, outcome = prepared
    found = {site: sorted(each.name for each in images) for site, images in outcome.plan.left_out.items() if images}
    assert found == drawn.left_out
    page = (outcome.journal.root / "PROVENANCE.md").read_text()
    assert all(name in page for names in drawn.left_out.values() for name in names[:5])


def test_provenance_names_licence_papers_and_the_hash_of_every_file(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    dataset, drawn, outcome = prepared
    root = outcome.journal.root
    page = (root / "PROVENANCE.md").read_text()
    assert dataset.licence in page
    assert all(paper in page for paper in dataset.citation)
    sums = dict(line.split("  ")[::-1] for line in (root / "checksums.sha256").read_text().splitlines())
    assert sums.keys() == {str(path.relative_to(root)) for path in root.glob("*/*/*")}
    assert all(hashlib.sha256((root / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    assert f"| {len([1 for site, _ in drawn.masks if site == outcome.plan.sites[0].name])} |" in page


def test_there_is_a_config_for_every_data_set_that_says_what_the_data_set_says() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == DATASETS.keys()
    for name, cls in DATASETS.items():
        dataset, config = cls(), (CONFIGS / f"{name}.yaml").read_text()
        data = yaml.safe_load(config)["data"]["init_args"]
        assert data["classes"] == list(dataset.classes)
        assert data.get("channels", 3) == dataset.channels
        assert data.get("group") == dataset.group
        assert data["held_out"] in {site.name for site in dataset.sites()}
        assert data["root"] == f"data/{name}"
        assert f"fedlight data prepare {name} --source COPY --root data/{name}" in config


@pytest.mark.parametrize("name", ["fundus", "mnms"])
def test_fit_takes_the_config_of_a_data_set(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fit", "-c", str(CONFIGS / f"{name}.yaml"), "--print_config"])
    assert not done.value.code
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["root"] == f"data/{name}"


def test_a_data_set_says_what_a_user_must_know(prepared: tuple[Dataset, Drawn, Outcome]) -> None:
    dataset, _, _ = prepared
    assert all((dataset.title, dataset.licence, dataset.citation, dataset.get, dataset.protocol, dataset.steps))
    assert dataset.classes[0] == "background"
    assert len({site.name for site in dataset.sites()}) == len(dataset.sites())
    assert all(each.allowed and len(each.sha256) == 64 for each in dataset.downloads)
