from __future__ import annotations

import random
from pathlib import Path

import pytest

from fedlight.data.findings import Findings
from fedlight.data.folder import FolderSites
from fedlight.data.source import Decoded, Entry, Source
from fedlight.data.splits import Fractions, read_splits, split


class Nothing(Source):
    def read(self) -> Decoded:
        raise AssertionError("a split must not read cases")


def entries(*names: str) -> list[Entry]:
    """Cases like "p1_left", of patient "p1"."""
    return [Entry(name, name.split("_")[0], Nothing()) for name in names]


MANY = entries(*(f"p{patient}_{eye}" for patient in range(20) for eye in ("left", "right")))


def test_a_split_does_not_depend_on_file_order() -> None:
    shuffled = random.Random(0).sample(MANY, len(MANY))
    fractions = Fractions(0.2, 0.2, 0)
    assert split("a", MANY, fractions, Findings()) == split("a", shuffled, fractions, Findings())


def test_a_patient_never_crosses_splits() -> None:
    for seed in range(20):
        stages = split("a", MANY, Fractions(0.15, 0.25, seed), Findings())
        assert len(stages) == 40
        for entry in MANY:
            assert stages[entry.name] == stages[f"{entry.group}_left"]


def test_validation_and_test_take_their_share() -> None:
    """0.2 and 0.1 of 40 cases are 8 and 4, which whole patients of two cases reach exactly."""
    stages = list(split("a", MANY, Fractions(0.2, 0.1, 0), Findings()).values())
    assert [stages.count("train"), stages.count("val"), stages.count("test")] == [28, 8, 4]


def test_another_seed_or_site_is_another_split() -> None:
    first = split("a", MANY, Fractions(0.2, 0.2, 0), Findings())
    assert first != split("a", MANY, Fractions(0.2, 0.2, 1), Findings())
    assert first != split("b", MANY, Fractions(0.2, 0.2, 0), Findings())


def test_every_split_gets_a_patient_however_small_its_share() -> None:
    assert sorted(split("a", entries("x", "y", "z"), Fractions(0.01, 0.01, 0), Findings()).values()) == [
        "test",
        "train",
        "val",
    ]


def test_training_keeps_a_patient_however_large_the_others() -> None:
    stages = split("a", entries("x_1", "x_2", "x_3", "y_1", "z_1"), Fractions(0.45, 0.45, 0), Findings())
    assert set(stages.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(("names", "test_fraction"), [(("x", "y"), 0.15), (("x_1", "x_2", "x_3"), 0.0)])
def test_too_few_patients_are_named(names: tuple[str, ...], test_fraction: float) -> None:
    findings = Findings()
    assert split("a", entries(*names), Fractions(0.15, test_fraction, 0), findings) == {}
    text = findings.sentences()[0].text
    assert text.startswith(f"site a: {len(names)} usable cases")
    assert "need one patient each" in text


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.2), (0.6, 0.4), (0.1, -0.1), (1.2, 0.0)])
def test_impossible_fractions_are_refused(val: float, test: float) -> None:
    findings = Findings()
    Fractions(val, test, 0).check(findings)
    assert "data.val_fraction" in findings.sentences()[0].text


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["site,case,split", *rows]))
    return path


def six(site: str) -> list[str]:
    return [f"{site},c{i},{stage}" for i, stage in enumerate(["train", "train", "val", "val", "test", "test"])]


def test_an_explicit_split_is_followed(two_sites: Path) -> None:
    path = write(two_sites / "splits.csv", *six("a"), *six("b"))
    data = FolderSites(str(two_sites), image_size=16, splits=str(path))
    data.prepare()
    for site in ("a", "b"):
        names = {stage: [c.name for c in cases] for stage, cases in data.survey().cases[site].items()}
        assert names == {"train": ["c0", "c1"], "val": ["c2", "c3"], "test": ["c4", "c5"]}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (six("a")[1:] + six("b"), "site a: no row in data.splits for c0"),
        ([*six("a"), *six("b"), "b,c9,val"], "site b: data.splits names cases that do not exist: c9"),
        ([*six("a"), *six("b")[:-1], "b,c5,dev"], "unknown split of b c5 (dev)"),
        ([*six("a"), *six("b"), "b,c5,val"], "more than one row for b c5"),
        ([*six("a"), *(row.replace("val", "test") for row in six("b"))], "site b: data.splits gives it no val case"),
    ],
)
def test_a_wrong_split_file_is_named(two_sites: Path, rows: list[str], sentence: str) -> None:
    data = FolderSites(str(two_sites), image_size=16, splits=str(write(two_sites / "splits.csv", *rows)))
    assert any(sentence in finding.text for finding in data.survey().findings)


def test_an_explicit_split_may_not_tear_a_patient(two_sites: Path) -> None:
    path = write(two_sites / "splits.csv", *six("a"), *six("b"))
    data = FolderSites(str(two_sites), image_size=16, splits=str(path), group="c")
    assert any("patients into several splits: c" in finding.text for finding in data.survey().findings)


@pytest.mark.parametrize("text", [None, "site,case\na,c0\n"])
def test_an_unusable_split_file_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "splits.csv").write_text(text)
    findings = Findings()
    assert read_splits(tmp_path / "splits.csv", findings) == {}
    assert "site,case,split" in findings.sentences()[0].text
