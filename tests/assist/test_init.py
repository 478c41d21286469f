"""``fedlight init``: proposals with reasons, and a config that fit takes as it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fedlight.__main__ import main
from fedlight.assist import proposal
from fedlight.assist.folder_look import Look, look
from tests.data.volume_sites import volume_site

SMALL = [
    *("--model.encoder", "plain-8", "--federation.rounds", "1", "--federation.local_steps", "1"),
    *("--trainer.accelerator", "cpu", "--federation.run_folder", "run"),
]


def write(
    root: Path, cases: Mapping[str, int], values: tuple[int, ...] = (0, 255), size: int = 40, grey: bool = False
) -> Path:
    """Sites with noise images whose masks have a stripe of every value."""
    draw = np.random.default_rng(0)
    for site, number in cases.items():
        for kind in ("images", "masks"):
            (root / site / kind).mkdir(parents=True)
        for case in range(number):
            image = draw.integers(0, 256, (size, size) if grey else (size, size, 3), dtype=np.uint8)
            mask = np.asarray(values, np.uint8)[np.arange(size) % len(values)][None].repeat(size, 0)
            Image.fromarray(image).save(root / site / "images" / f"{case}.png")
            Image.fromarray(mask).save(root / site / "masks" / f"{case}.png")
    return root


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.chdir(tmp_path)


def seen(**changes: object) -> Look:
    known = {"cases": {"a": 10, "b": 6, "c": 20}, "values": (0, 255), "deep": False, "grey": False}
    return Look(**{**known, "shortest": 565, "longest": 584, **changes})  # type: ignore[arg-type]


def test_the_smallest_of_three_sites_is_held_out_and_none_of_two() -> None:
    assert proposal.held_out(seen()).value == "b"
    assert proposal.held_out(seen(cases={"a": 10, "b": 6})).value is None


def test_large_images_are_trained_on_in_patches_and_small_ones_as_a_whole() -> None:
    """565 pixels hold a patch of 256; 200 hold six times 32, 192; 90 becomes three times 32, 96."""
    assert proposal.size(seen()).value == ("patch_size", 256)
    assert proposal.size(seen(shortest=200)).value == ("patch_size", 192)
    assert proposal.size(seen(shortest=80, longest=90)).value == ("image_size", 96)


def test_a_batch_is_one_that_the_smallest_training_site_can_fill() -> None:
    """Without b there are 0.7 x 10 = 7 training cases at least, so 4; with it 0.7 x 6 = 4.2, so 4; of 100, 8."""
    assert proposal.batch_size(seen(), ("b",)).value == 4
    assert proposal.batch_size(seen(), ()).value == 4
    assert proposal.batch_size(seen(cases={"a": 100, "b": 100}), ()).value == 8
    assert proposal.batch_size(seen(cases={"a": 1, "b": 100}), ()).value == 1


def test_rounds_make_about_a_thousand_steps() -> None:
    """Middle of 7 and 14 training cases: 10.5, in batches of 4 three steps; 1000 / 3 > 100; 1000 / 20 = 50."""
    assert proposal.local_steps(seen(), ("b",), 4).value == 3
    assert [proposal.rounds(steps).value for steps in (3, 20, 500)] == [100, 50, 20]


def test_masks_are_classes_by_their_values_or_soft() -> None:
    assert proposal.masks(seen()).value.values == {0: 0, 255: 1}
    several = proposal.masks(seen(values=(0, 128, 255))).value
    assert (several.values, several.classes) == ({0: 0, 128: 1, 255: 2}, ("background", "class1", "class2"))
    assert proposal.masks(seen(values=tuple(range(200)))).value.threshold == 128


def test_a_folder_is_looked_at_with_the_readers_of_training(tmp_path: Path) -> None:
    root = write(tmp_path / "data", {"a": 3, "b": 4}, (0, 1, 2), grey=True)
    assert look(root) == Look({"a": 3, "b": 4}, (0, 1, 2), False, True, 40, 40)


@pytest.mark.parametrize(
    ("values", "grey", "size"), [((0, 255), False, 40), ((0, 128, 255), True, 40), ((0, 1), False, 400)]
)
def test_fit_takes_what_is_written_as_it_is(
    values: tuple[int, ...], grey: bool, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "my data", {"a": 4, "b": 4, "c": 3}, values, size, grey)
    assert main(["init", "my data", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "The data can be trained on." in said
    assert said.splitlines()[-1] == "Written: fedlight.yaml. Next: fedlight fit -c fedlight.yaml"
    config = yaml.safe_load(Path("fedlight.yaml").read_text())
    assert config["data"]["init_args"]["held_out"] == ["c"]
    assert not Path("fedlight.yaml.part").exists()
    assert main(["fit", "-c", "fedlight.yaml", *SMALL, "--data.batch_size", "1"]) == 0


def test_options_answer_the_questions(tmp_path: Path) -> None:
    write(tmp_path / "data", {"a": 4, "b": 4, "c": 3})
    options = ["--held_out", "a,b", "--classes", "background, vessel", "--image_size", "64", "--batch_size", "2"]
    assert main(["init", "data", *options, "--rounds", "7", "--run_folder", "runs/x", "--output", "x.yaml"]) == 0
    config = yaml.safe_load(Path("x.yaml").read_text())
    settings = config["data"]["init_args"]
    assert (settings["held_out"], settings["classes"]) == (["a", "b"], ["background", "vessel"])
    assert (settings["image_size"], settings["batch_size"]) == (64, 2)
    assert (config["federation"]["rounds"], config["federation"]["run_folder"]) == (7, "runs/x")


def test_a_person_is_asked_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data", {"a": 4, "b": 4, "c": 3})
    answers = iter(["nowhere", "data", "d", "a", "", "x", "48", "", "5"])
    monkeypatch.setattr("builtins.input", lambda *prompt: next(answers))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["init"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for sentence in ("nowhere is not a folder.", "held_out must be a site, got d.", "a whole number above 0 is needed"):
        assert sentence in said
    assert "It has the fewest cases (3), so training loses least." in said
    config = yaml.safe_load(Path("fedlight.yaml").read_text())
    assert config["data"]["init_args"]["held_out"] == ["a"]
    assert config["data"]["init_args"]["image_size"] == 48
    assert config["federation"]["rounds"] == 5
    assert list(answers) == []


def test_a_config_is_never_written_over_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data", {"a": 4, "b": 4, "c": 3})
    Path("fedlight.yaml").write_text("mine: 1\n")
    assert main(["init", "data", "--yes"]) == 2
    assert "--output must be free, got fedlight.yaml." in capsys.readouterr().err
    assert Path("fedlight.yaml").read_text() == "mine: 1\n"
    assert main(["init", "data", "--yes", "--force"]) == 0
    assert "FolderSites" in Path("fedlight.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--root must be given where nobody can be asked"),
        (["nowhere"], "data.root nowhere is not a folder."),
        (["data", "--held_out", "aa"], "held_out must be a site, got aa. Did you mean a?"),
        (["data", "--held_out", "a,b,c"], "held_out must leave a site to train"),
        (["data", "--classes", "vessel"], "classes must be 2 different names with commas, got vessel."),
        (["data", "--rounds", "0"], "a whole number above 0 is needed, got 0."),
        (["data", "--image_size", "8", "--patch_size", "8"], "--image_size and --patch_size exclude each other"),
        (["data", "--patch_size", "99"], "fedlight.yaml is not written, as fit would refuse this data."),
        (["data", "--output", "no/x.yaml"], "--output must lie in a folder that exists, got no/x.yaml."),
    ],
)
def test_a_mistake_is_answered_in_one_sentence_and_nothing_is_written(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data", {"a": 4, "b": 4, "c": 3})
    assert main(["init", *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.glob("*.yaml*")) == []


def test_for_volumes_another_start_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume_site(tmp_path / "data", "a", cases=1)
    assert main(["init", "data", "--yes"]) == 2
    assert "looks at images, and a has volumes. Start from configs/volumes.yaml" in capsys.readouterr().err
    volume_site(tmp_path / "data", "b", cases=1)
    assert main(["init", "data", "--yes"]) == 2
    assert "looks at images, and a, b have volumes." in capsys.readouterr().err


def test_a_broken_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data", {"a": 4, "b": 4, "c": 3})
    (tmp_path / "data" / "a" / "images" / "0.png").write_bytes(b"no image")
    assert main(["init", "data", "--yes"]) == 2
    assert "site a: cannot be read as an image: images/0.png" in capsys.readouterr().err
