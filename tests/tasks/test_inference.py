"""Claims about writing the segmentations of a folder of images."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedlight.batch import Batch
from fedlight.tasks.inference import find_images, predict_folder
from fedlight.tasks.overlay import COLOURS, draw_overlay
from fedlight.tasks.segmentation import SegmentationTask


class Reading:
    """Reads images as they are."""

    def read(self, path: Path) -> Batch:
        """Returns one image in [0, 1]."""
        try:
            pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
        except OSError as error:
            raise ValueError(f"{path}: the file is no image.\nSave it again.") from error
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        size = image.shape[-2:]
        empty = torch.zeros(1, *size, dtype=torch.int64)
        return Batch(
            image=image,
            mask=empty,
            valid=empty == 0,
            case=[path.stem],
            spacing=torch.ones(1, 2),
            size=torch.tensor([list(size)]),
        )

    def write(self, array: np.ndarray[Any, Any], like: Path, target: Path) -> Path:
        """Is for volumes."""
        raise NotImplementedError


class Threshold(SegmentationTask):
    """Says that bright pixels are foreground; no network is needed."""

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        bright = 8 * (images[:, :1] - 0.5)
        return bright if self.binary else torch.cat([0 * bright, bright, bright - 20], dim=1)


def save(path: Path, bright: int = 3) -> Path:
    """Saves an image of 6 rows and 10 columns whose first columns are white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 10), dtype=np.uint8)
    pixels[:, :bright] = 255
    Image.fromarray(pixels).save(path)
    return path


def table(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_masks_have_the_size_of_the_input_and_the_table_counts_their_pixels(tmp_path: Path) -> None:
    """18 of 60 pixels are white; every probability is sigmoid(4) = 0.982 for the chosen class."""
    save(tmp_path / "in" / "eye.png")
    output = tmp_path / "out"
    rows = predict_folder(Threshold(), Reading(), [tmp_path / "in"], output)
    mask = np.asarray(Image.open(output / "masks" / "eye.png"))
    assert mask.shape == (6, 10)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.where(np.arange(10) < 3, 255, 0) * np.ones((6, 1)))
    assert np.asarray(Image.open(output / "overlays" / "eye.png")).shape == (6, 10, 3)
    assert not (output / "probabilities").exists()
    row = table(output)[0]
    assert (row["name"], row["status"], row["width"], row["height"]) == ("eye", "ok", "10", "6")
    assert (row["pixels/foreground"], row["share/foreground"]) == ("18", "0.3")
    assert float(row["confidence"]) == pytest.approx(0.982, abs=1e-3)
    assert rows[0]["pixels/background"] == 42


def test_masks_of_several_classes_hold_the_class_index(tmp_path: Path) -> None:
    save(tmp_path / "eye.png")
    task = Threshold(classes=("background", "disc", "cup"))
    predict_folder(task, Reading(), [tmp_path / "eye.png"], tmp_path / "out", probabilities=True)
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "eye.png"))
    assert np.unique(mask).tolist() == [0, 1]
    chances = np.load(tmp_path / "out" / "probabilities" / "eye.npy")
    assert chances.shape == (3, 6, 10)
    assert chances.dtype == np.float16
    assert np.array_equal(chances.argmax(0), mask)


def test_uncertainty_is_a_16_bit_map_a_picture_and_a_column(tmp_path: Path) -> None:
    """Every pixel's probabilities are sigmoid(4) = 0.98201 and 0.01799: 0.02571 + 0.10427 = 0.1300 of a bit."""
    save(tmp_path / "eye.png")
    output = tmp_path / "out"
    predict_folder(Threshold(), Reading(), [tmp_path / "eye.png"], output, uncertainty=True)
    with Image.open(output / "uncertainty" / "eye.png") as image:
        levels = np.asarray(image)
    assert levels.shape == (6, 10)
    assert levels.dtype == np.uint16
    assert levels / 65535 == pytest.approx(0.13, abs=1e-4)
    assert np.asarray(Image.open(output / "uncertainty_overlays" / "eye.png")).shape == (6, 10, 3)
    row = table(output)[0]
    assert float(row["entropy"]) == float(row["entropy/foreground"]) == pytest.approx(0.13, abs=1e-4)


def test_without_being_asked_there_is_no_uncertainty(tmp_path: Path) -> None:
    predict_folder(Threshold(), Reading(), [save(tmp_path / "eye.png")], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"masks", "overlays", "predictions.csv"}
    assert not [name for name in table(tmp_path / "out")[0] if "entropy" in name]


def test_views_of_a_task_that_works_pixel_by_pixel_change_no_mask(tmp_path: Path) -> None:
    file, task = save(tmp_path / "eye.png"), Threshold()
    plain = predict_folder(task, Reading(), [file], tmp_path / "plain", uncertainty=True)
    task.views = "square"
    assert predict_folder(task, Reading(), [file], tmp_path / "views", uncertainty=True) == plain


def test_an_unreadable_file_is_one_sentence_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    save(folder / "a.png")
    save(folder / "c.png")
    (folder / "b.png").write_bytes(b"no image")
    predict_folder(Threshold(), Reading(), [folder], tmp_path / "out")
    rows = table(tmp_path / "out")
    assert [(row["name"], row["status"]) for row in rows] == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert rows[1]["reason"] == "the file is no image. Save it again."
    assert capsys.readouterr().err == f"{folder / 'b.png'}: the file is no image. Save it again.\n"


def test_images_of_one_stem_do_not_replace_each_other(tmp_path: Path) -> None:
    save(tmp_path / "in" / "eye.png", bright=2)
    save(tmp_path / "in" / "eye.bmp", bright=7)
    output = tmp_path / "out"
    predict_folder(Threshold(), Reading(), [tmp_path / "in"], output)
    masks = {path.name: np.asarray(Image.open(path)).sum() // 255 // 6 for path in (output / "masks").iterdir()}
    assert masks == {"eye.png.png": 2, "eye.bmp.png": 7}


def test_predicting_again_replaces_results_and_does_not_segment_them(tmp_path: Path) -> None:
    save(tmp_path / "eye.png", bright=2)
    output = tmp_path / "out"
    predict_folder(Threshold(), Reading(), [tmp_path], output)
    save(tmp_path / "eye.png", bright=7)
    rows = predict_folder(Threshold(), Reading(), [tmp_path], output)
    assert [(row["name"], row["pixels/foreground"]) for row in rows] == [("eye", 42)]


def test_without_images_the_accepted_extensions_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    with pytest.raises(ValueError, match=r"input must hold images \(\.png, .*\.dcm, .*\), got .* Name a folder"):
        predict_folder(Threshold(), Reading(), [tmp_path], tmp_path / "out")
    with pytest.raises(ValueError, match="that exists, got gone"):
        find_images([Path("gone")], tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_task_is_left_in_its_mode_and_rows_are_reported_at_once(tmp_path: Path) -> None:
    task = Threshold()
    seen: list[str] = []
    predict_folder(
        task, Reading(), [save(tmp_path / "a.png")], tmp_path / "out", report=lambda r: seen.append(r["name"])
    )
    assert task.training
    assert seen == ["a"]


def test_an_overlay_draws_the_outline_and_leaves_the_background() -> None:
    image = torch.linspace(0, 1, 64).reshape(1, 8, 8)
    labels = torch.zeros(8, 8, dtype=torch.int64)
    labels[2:5, 2:5] = 1
    picture = draw_overlay(image, labels)
    plain = draw_overlay(image, torch.zeros_like(labels))
    assert picture.shape == (8, 8, 3)
    assert tuple(picture[2, 2]) == COLOURS[0]
    assert not np.array_equal(picture[3, 3], plain[3, 3])
    outside = (labels == 0).numpy()
    assert np.array_equal(picture[outside], plain[outside])
