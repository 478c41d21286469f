"""The writing side of ``fedlight predict``: masks, overlays, probabilities and a table for any images and volumes.

A folder of results holds ``masks/NAME.png`` (8 bit, the size of the input: 0 and 255 for a binary task, else the class
index), ``overlays/NAME.png`` (the image as the network saw it, contours and a tint on top), on request
``probabilities/NAME.npy`` (classes, height, width; float16), ``uncertainty/NAME.png`` (predictive entropy; 16 bit, 0 is
certain and 65535 is 1) and ``uncertainty_overlays/NAME.png``, and ``predictions.csv`` with a row an image.

Of a volume, mask, probabilities and uncertainty are volumes of the input's own format and geometry: the mask holds the
class index (uint8), the probabilities have a further axis for the classes (float32), the uncertainty is in [0, 1]
(float32). Of a DICOM series, the mask is a DICOM-SEG, which refers to its images, and the others are NIfTI. Overlays
show a few slices side by side.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from fedlight.output_folder import make_folder, require_folder
from fedlight.tasks.dicom_inputs import with_series
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.overlay import draw_overlay, spread
from fedlight.tasks.uncertainty import draw_heat, entropy, grey_levels, mean_entropies

SHOWN = 5
"""Slices of a volume in its overlay, at most."""

RESULTS = ("masks", "overlays", "probabilities", "uncertainty", "uncertainty_overlays", "predictions.csv")
"""What a folder of results may hold."""

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
    uncertainty: bool = False,
) -> list[Row]:
    """Segments images and writes what is found; a file that cannot be read is reported and the rest goes on.

    Args:
        task: Holds the weights; its mode is restored.
        data: The data module, which reads images as it does for training.
        inputs: Images, and folders that are searched for images.
        output: Folder of the results; files of the same names are replaced.
        probabilities: Whether to write the probability maps.
        report: Called with every row as soon as its image is done.
        uncertainty: Whether to write maps of the predictive entropy, and its means into the table.

    Returns:
        The rows of ``predictions.csv``: "file", "name", "status" ("ok" or "failed"), "reason", "width", "height",
        "slices", "confidence" (mean probability of the chosen class), "pixels/<class>" and "share/<class>", and with
        ``uncertainty`` "entropy" (its mean) and "entropy/<class>" (its mean where that class was found).

    Raises:
        ValueError: If there is no image among the inputs, or the folder cannot be made.
    """
    files = find_images(inputs, output)
    make_folder(output)
    rows = []
    results = _Results(data, output, probabilities, uncertainty)
    with _table(output / "predictions.csv", task.classes, uncertainty) as write, evaluating(task):
        for file, name in zip(files, unique_names(files), strict=True):
            row = _predict_one(task, results, file, name)
            write(row)
            rows.append(row)
            if report is not None:
                report(row)
    return rows


def require_free(output: Path) -> None:
    """Checks that a folder holds no results yet: those of two calls side by side could not be told apart.

    Raises:
        ValueError: If it does, or if there can be no folder.
    """
    require_folder(output)
    if found := [name for name in RESULTS if (output / name).exists()]:
        raise ValueError(
            f"output must be free of results of an earlier call, got {output}, which holds {', '.join(found)}. "
            "Name another, or remove them."
        )


def readable_images(data: Reader, inputs: Iterable[Path], output: Path) -> Iterator[Batch]:
    """Yields the images and volumes that can be read, for statistics that need no mask."""
    for file in find_images(inputs, output):
        with suppress(ValueError):  # the prediction itself names it
            yield data.read(file)


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
def _table(path: Path, classes: Sequence[str], uncertainty: bool) -> Iterator[Callable[[Row], None]]:
    """Opens the table of results; every row is on disk before the next image starts."""
    columns = ["file", "name", "status", "reason", "width", "height", "slices", "confidence"]
    columns += [f"{what}/{name}" for what in ("pixels", "share") for name in classes]
    columns += ["entropy", *(f"entropy/{name}" for name in classes[1:])] if uncertainty else []
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()

        def write(row: Row) -> None:
            writer.writerow(row)
            stream.flush()

        yield write


def _predict_one(task: FederatedModule, results: _Results, file: Path, name: str) -> Row:
    try:
        batch: Batch = move_data_to_device(results.data.read(file), task.device)
        chances = task.segment(batch).cpu()  # (N, classes, height, width), N slices of a volume or 1
        found = results.of(task, batch, chances, file, name)
    except Exception as error:
        reason = " ".join(str(error).split()).removeprefix(f"{file}: ") or type(error).__name__
        sys.stderr.write(f"{file}: {reason}\n")
        return {"file": str(file), "name": name, "status": "failed", "reason": reason}
    return {"file": str(file), "name": name, "status": "ok", "reason": "", **found}


@dataclass(frozen=True, slots=True)
class _Results:
    """Writes what was found in an image: mask and overlay, and what else was asked for."""

    data: Reader
    output: Path
    probabilities: bool
    uncertainty: bool

    def of(self, task: FederatedModule, batch: Batch, chances: Tensor, file: Path, name: str) -> Row:
        """Writes the results of an image, under a name, and returns what is measured in it."""
        height, width = chances.shape[2:]
        valid = batch["valid"][:, :height, :width].cpu()
        labels = chances.argmax(1).masked_fill(~valid, 0)  # (N, height, width)
        if is_volume(batch):
            self._volume("masks", labels.to(torch.uint8), file, name)
        else:
            self._image("masks", mask_pixels(labels[0], len(task.classes)), name)
        self._image("overlays", _drawn(task, batch, labels, labels, draw_overlay), name)
        if self.probabilities:
            self._write_probabilities(batch, chances, file, name)
        measured = _measure(task.classes, labels, chances)
        if not self.uncertainty:
            return measured
        uncertain = entropy(chances).masked_fill(~valid, 0)
        self._write_uncertainty(batch, uncertain, file, name)
        self._image("uncertainty_overlays", _drawn(task, batch, labels, uncertain, draw_heat), name)
        return measured | mean_entropies(uncertain, labels, valid, task.classes)

    def _write_probabilities(self, batch: Batch, chances: Tensor, file: Path, name: str) -> None:
        if is_volume(batch):
            self._volume("probabilities", chances.permute(0, 2, 3, 1), file, name)
        else:
            np.save(self._place("probabilities", f"{name}.npy"), chances[0].to(torch.float16).numpy())

    def _write_uncertainty(self, batch: Batch, uncertain: Tensor, file: Path, name: str) -> None:
        if is_volume(batch):
            self._volume("uncertainty", uncertain, file, name)
        else:
            self._image("uncertainty", grey_levels(uncertain[0]), name)

    def _volume(self, folder: str, array: Tensor, file: Path, name: str) -> None:
        self.data.write(array.numpy(), file, self._place(folder, name))

    def _image(self, folder: str, pixels: np.ndarray[Any, Any], name: str) -> None:
        Image.fromarray(pixels).save(self._place(folder, f"{name}.png"))

    def _place(self, folder: str, name: str) -> Path:
        (self.output / folder).mkdir(parents=True, exist_ok=True)
        return self.output / folder / name


def mask_pixels(labels: Tensor, classes: int) -> np.ndarray[Any, Any]:
    """Returns the pixels of a mask file, (H, W), uint8: 0 and 255 for two classes, else the class index."""
    return (labels * (255 if classes == 2 else 1)).to(torch.uint8).numpy()


def _drawn(
    task: FederatedModule,
    batch: Batch,
    labels: Tensor,
    maps: Tensor,
    draw: Callable[[Tensor, Tensor], np.ndarray[Any, Any]],
) -> np.ndarray[Any, Any]:
    """Draws maps (N, H, W) over an image, or over some slices of a volume side by side, of those with foreground."""
    chosen, images = spread(labels, SHOWN), batch["image"]
    if is_volume(batch):  # the middle channel is the slice, its neighbours are further ones
        middle = images.shape[1] // 2
        images = images[:, middle : middle + 1]
    shown = images[chosen.to(images.device)]
    pictures = restore(shown, (labels.shape[1], labels.shape[2]), task.placing).cpu()
    overlays = [draw(picture, maps[place]) for picture, place in zip(pictures, chosen.tolist(), strict=True)]
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
