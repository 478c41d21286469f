"""The commands ``fedlight data list``, ``info`` and ``prepare``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fedlight.__main__ import main
from fedlight.data.datasets import DATASETS
from tests.data.datasets.layouts import LAYOUTS


def test_the_list_names_every_data_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(DATASETS) + 1]] == list(DATASETS)
    fundus = next(line for line in lines if line.startswith("fundus"))
    assert fundus.split()[1:3] == ["4", "1060"]  # 101 + 159 + 400 + 400


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_known_of_a_data_set_is_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    dataset = DATASETS[name]()
    for text in (dataset.title, dataset.licence, dataset.get, dataset.protocol, *dataset.citation):
        assert " ".join(text.split()) in shown
    assert "::" not in shown


def test_the_command_that_looks_at_volumes_works_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes have spaces in their names, and it needs the pattern of patients."""
    monkeypatch.chdir(tmp_path)
    LAYOUTS["mnms"](tmp_path / "copy")
    where = ["--source", "copy", "--root", "heart data", "--sites", "centre4", "centre5"]
    assert main(["data", "prepare", "mnms", *where, "--allow_incomplete"]) == 0
    said = capsys.readouterr().out
    assert "note: centre4: 1 image is no case (no mask in the distribution): A4S4V9." in said
    (line,) = (line for line in said.splitlines() if "Look at them" in line)
    assert main(shlex.split(line.partition("fedlight ")[2])) == 0
    assert "myocardium" in capsys.readouterr().out


def test_a_data_set_is_prepared_and_the_command_that_looks_at_it_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LAYOUTS["fundus"](tmp_path / "copy")
    command = ["data", "prepare", "fundus", "--source", "copy", "--root", "fundus"]
    assert main(command) == 2
    assert "drishti_gs: 5 cases with masks, and the distribution has 101." in capsys.readouterr().err
    assert main([*command, "--allow_incomplete", "--target", "disc"]) == 0
    said = capsys.readouterr().out
    assert "20 cases in fundus: drishti_gs 5, rim_one_r3 5, refuge_train 5, refuge_val 5." in said
    (line,) = (line for line in said.splitlines() if "Look at them" in line)
    assert main(shlex.split(line.partition("fedlight ")[2])) == 0
    assert "disc" in capsys.readouterr().out

    page = (tmp_path / "fundus" / "PROVENANCE.md").read_text()
    assert "- Masks: 0 background, 255 disc." in page
    (again,) = re.findall(r"`(fedlight data prepare .*)`\.$", page, re.MULTILINE)
    assert again == shlex.join(["fedlight", *command, "--target", "disc", "--allow_incomplete"])
    assert main(shlex.split(again)[1:]) == 0
    assert "(20 were there already)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("data prepare fundsu --source a --root b", "fundsu is not a data set. Did you mean fundus?"),
        ("data info x", "x is not a data set. Known are"),
        ("data prepare fundus --source nowhere --root b", "--source nowhere is not a folder."),
        ("data prepare fundus --root b", "--source"),
        ("data prepare fundus --source a --root b --target ring", "--target"),
        ("data prepare retina_vessels --source a --root b --target cup", "--target"),
        ("data prepare fundus --source a --root b --download", "fundus cannot be downloaded without"),
        ("data look", "look"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
