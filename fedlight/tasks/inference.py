"""The writing side of ``fedlight predict``: masks, overlays, probabilities and a table for any images and volumes.

A folder of results holds ``masks/NAME.png`` (8 bit, the size of the input: 0 and 255 for a binary task, else the class
index), ``overlays/NAME.png`` (the image as the network saw it, contours and a tint on top), on request
``probabilities/NAME.npy`` (classes, height, width; float16) and ``predictions.csv`` with a row an image.

Of a volume, mask and probabilities are volumes of the input's own format and geometry: the mask holds the class index
(uint8), the probabilities have a further axis for the classes (float32). Of a DICOM series, the mask is a DICOM-SEG,
which refers to its images, and the probabilities are NIfTI. The overlay shows a few slices side by side.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image
from torch import Tensor

from fedlight.batch import Batch, is_volume
from fedlight.file_names import DICOM, IMAGES, VOLUMES, is_read, stem
from fedlight.geometry import restore
from fedlight.tasks.dicom_inputs import with_series
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.overlay import draw_overlay, spread

SHOWN = 5
"""Slices of a volume in its overlay, at most."""

Row = dict[str, Any]


class Reader(Protocol):
    """What reads images as it does for training: a data module."""

    def read(self, path: Path) -> Batch:
        """Returns one image or volume as an evaluation batch; raises if it cannot be read."""

    def write(self, array: np.ndarray[Any, Any], like: Path, target: Path) -> Path:
        """Writes a map of a volume, (S, H, W) or (S, H, W, K), like a file, to a path without ending."""


def predict_folder(
    task: FederatedModule,
    data: Reader,
    inputs: Sequence[Path],
    output: Path,
    probabilities: bool = False,
    report: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Segments images and writes what is found; a file that cannot be read is reported and the rest goes on.

    Args:
        task: Holds the weights; its mode is restored.
        data: The data module, which reads images as it does for training.
        inputs: Images, and folders that are searched for images.
        output: Folder of the results; files of the same names are replaced.
        probabilities: Whether to write the probability maps.
        report: Called with every row as soon as its image is done.

    Returns:
        The rows of ``predictions.csv``: "file", "name", "status" ("ok" or "failed"), "reason", "width", "height",
        "slices", "confidence" (mean probability of the chosen class), and "pixels/<class>" and "share/<class>".

    Raises:
        ValueError: If there is no image among the inputs.
    """
    files = find_images(inputs, output)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    with _table(output / "predictions.csv", task.classes) as write, evaluating(task):
        for file, name in zip(files, unique_names(files), strict=True):
            row = _predict_one(task, data, file, name, output, probabilities)
            write(row)
            rows.append(row)
            if report is not None:
                report(row)
    return rows


def readable_images(data: Reader, inputs: Iterable[Path], output: Path) -> Iterator[Tensor]:
    """Yields the images that can be read, (1, C, H, W) each, for statistics that need no mask."""
    for file in find_images(inputs, output):
        with suppress(ValueError):  # the prediction itself names it
            yield data.read(file)["image"]


def find_images(inputs: Iterable[Path], output: Path) -> list[Path]:
    """Returns the images among files and in folders (and theirs), sorted within a folder, without earlier results.

    A folder that holds the slices of a DICOM series is one of them itself.

    Raises:
        ValueError: If there are none or an input does not exist.
    """
    found: dict[Path, None] = {}
    for path in inputs:
        if not path.exists():
            raise ValueError(f"input must be an image or a folder that exists, got {path}. Check the path.")
        files = [path] if path.is_file() else with_series(sorted(_images_in(path, output)))
        found |= dict.fromkeys(files)
    if not found:
        places = ", ".join(str(path) for path in inputs) or "nothing"
        raise ValueError(
            f"input must hold images ({', '.join((*IMAGES, *VOLUMES, *DICOM))}), got {places}. Name a folder with some."
        )
    return list(found)


def _images_in(folder: Path, output: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = path.name.startswith(".")
        if is_read(path) and not hidden and path.is_file() and not path.is_relative_to(output):
            yield path


def unique_names(files: Sequence[Path]) -> list[str]:
    """Returns a name a file for its results: the stem, or as much more of the path as keeps all names apart.

    >>> unique_names([Path("a.png"), Path("b.png")]), unique_names([Path("a.png"), Path("a.jpg")])
    (['a', 'b'], ['a.png', 'a.jpg'])
    >>> unique_names([Path("x/a.png"), Path("y/a.png")])
    ['x-a.png', 'y-a.png']
    """
    choices = (
        [stem(file) for file in files],
        [file.name for file in files],
        ["-".join(file.parts[-2:]) for file in files],
    )
    for names in choices:
        if len({name.lower() for name in names}) == len(files):  # some file systems ignore case
            return names
    return [f"{number:04d}-{stem(file)}" for number, file in enumerate(files)]


@contextmanager
def evaluating(task: FederatedModule) -> Iterator[None]:
    """Runs a block with a task in evaluation mode, without gradients."""
    training = task.training
    task.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        task.train(training)


@contextmanager
def _table(path: Path, classes: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    """Opens the table of results; every row is on disk before the next image starts."""
    columns = ["file", "name", "status", "reason", "width", "height", "slices", "confidence"]
    columns += [f"{what}/{name}" for what in ("pixels", "share") for name in classes]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()

        def write(row: Row) -> None:
            writer.writerow(row)
            stream.flush()

        yield write


def _predict_one(task: FederatedModule, data: Reader, file: Path, name: str, output: Path, probabilities: bool) -> Row:
    try:
        return {"file": str(file), "name": name, **_segment(task, data, file, name, output, probabilities)}
    except Exception as error:
        reason = " ".join(str(error).split()).removeprefix(f"{file}: ") or type(error).__name__
        sys.stderr.write(f"{file}: {reason}\n")
        return {"file": str(file), "name": name, "status": "failed", "reason": reason}


def _segment(task: FederatedModule, data: Reader, file: Path, name: str, output: Path, probabilities: bool) -> Row:
    batch: Batch = move_data_to_device(data.read(file), task.device)
    chances = task.segment(batch).cpu()  # (N, classes, height, width), N slices of a volume or 1
    height, width = chances.shape[2:]
    labels = chances.argmax(1).masked_fill(~batch["valid"][:, :height, :width].cpu(), 0)  # (N, height, width)
    if is_volume(batch):
        _save_volume(data, labels.to(torch.uint8), file, output / "masks" / name)
        _save_image(output / "overlays" / f"{name}.png", _slices(task, batch, labels))
        if probabilities:
            _save_volume(data, chances.permute(0, 2, 3, 1), file, output / "probabilities" / name)
    else:
        _save_image(output / "masks" / f"{name}.png", mask_pixels(labels[0], len(task.classes)))
        picture = restore(batch["image"], (height, width), task.placing)[0].cpu()
        _save_image(output / "overlays" / f"{name}.png", draw_overlay(picture, labels[0]))
        if probabilities:
            _save_array(output / "probabilities" / f"{name}.npy", chances[0])
    return {"status": "ok", "reason": "", **_measure(task.classes, labels, chances)}


def mask_pixels(labels: Tensor, classes: int) -> np.ndarray[Any, Any]:
    """Returns the pixels of a mask file, (H, W), uint8: 0 and 255 for two classes, else the class index."""
    return (labels * (255 if classes == 2 else 1)).to(torch.uint8).numpy()


def _slices(task: FederatedModule, batch: Batch, labels: Tensor) -> np.ndarray[Any, Any]:
    """Draws a few slices of a volume side by side: spread over those with foreground, or over all."""
    chosen = spread(labels, SHOWN)
    middle = batch["image"].shape[1] // 2  # its neighbours are further channels
    images = batch["image"][chosen.to(batch["image"].device), middle : middle + 1]
    pictures = restore(images, (labels.shape[1], labels.shape[2]), task.placing).cpu()
    overlays = [draw_overlay(picture, labels[place]) for picture, place in zip(pictures, chosen.tolist(), strict=True)]
    return np.concatenate(overlays, axis=1)


def _measure(classes: Sequence[str], labels: Tensor, chances: Tensor) -> Row:
    counts = torch.bincount(labels.flatten(), minlength=len(classes)).tolist()
    return {
        "width": labels.shape[2],
        "height": labels.shape[1],
        "slices": labels.shape[0],
        "confidence": round(float(chances.max(1).values.mean()), 6),
        **{f"pixels/{name}": count for name, count in zip(classes, counts, strict=True)},
        **{f"share/{name}": count / labels.numel() for name, count in zip(classes, counts, strict=True)},
    }


def _save_image(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _save_array(path: Path, chances: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, chances.to(torch.float16).numpy())


def _save_volume(data: Reader, array: Tensor, file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    data.write(array.numpy(), file, target)
