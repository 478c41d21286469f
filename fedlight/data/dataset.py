"""Batches of cases: random and augmented for training, whole and in order for evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fedlight.batch import Batch
from fedlight.data.cases import Case
from fedlight.data.patches import corner
from fedlight.data.preparation import letterbox_labels, stretch_labels, to_images
from fedlight.data.source import Decoded, Pixels
from fedlight.data.transforms import Augmentation
from fedlight.randomness import derive, generator


class Sample(NamedTuple):
    """One element of a batch, before normalisation."""

    image: Pixels | npt.NDArray[np.float32]  # (h, w, C)
    mask: npt.NDArray[np.uint8]  # (h, w) in training, (H, W) as read in evaluation
    valid: npt.NDArray[np.bool_]  # like mask
    case: Case


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an epoch: how many samples come before it, and which of all slices it shows; an image is one."""

    position: int
    index: int


class TrainingBatches(Dataset[Batch]):
    """Training batches, addressed by the places of their samples; a sample depends on seed and place alone.

    Args:
        cases: The training cases.
        augmentation: Random transforms, if any.
        foreground: Probability that a patch is centred on foreground.
        foreground_slices: Probability that a slice is drawn anew among those of its volume that show foreground.
        seed: Of this epoch.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        augmentation: Augmentation | None,
        foreground: float,
        foreground_slices: float,
        seed: int,
    ) -> None:
        self.cases = cases
        self.augmentation = augmentation
        self.foreground = foreground
        self.foreground_slices = foreground_slices
        self.seed = seed
        self._slices = np.cumsum([case.facts.slices for case in cases])  # up to and with a case

    def __len__(self) -> int:
        return int(self._slices[-1]) if len(self._slices) else 0

    def __getitem__(self, places: Sequence[Place]) -> Batch:
        return to_batch([self._sample(place) for place in places] or [self._nobody()])

    def _sample(self, place: Place) -> Sample:
        case, index = self._slice(place)
        seed = derive(self.seed, "sample", place.position)
        view = self._view(case, index, seed)
        if self.augmentation is None:
            return Sample(*view, case)
        return Sample(*self.augmentation.apply(*view, seed), case)

    def _nobody(self) -> Sample:
        """A black sample of the shape of others, without a valid pixel."""
        image, mask, valid, case = self._sample(Place(0, 0))
        return Sample(np.zeros_like(image), np.zeros_like(mask), np.zeros_like(valid), case)

    def _slice(self, place: Place) -> tuple[Case, int]:
        """Finds the case and the slice of it that a place shows."""
        number = int(np.searchsorted(self._slices, place.index, side="right"))
        case = self.cases[number]
        index = place.index - int(self._slices[number]) + case.facts.slices
        if case.facts.slices == 1 or not self.foreground_slices:
            return case, index
        random = generator(self.seed, "slice", place.position)
        shown = np.flatnonzero(case.facts.foreground)
        if len(shown) and float(torch.rand((), generator=random)) < self.foreground_slices:
            index = int(shown[int(torch.randint(len(shown), (), generator=random))])
        return case, index

    def _view(self, case: Case, index: int, seed: int) -> Decoded:
        image, mask, valid = case.load(index)
        patch, grid = case.preparation.patch, case.preparation.grid
        if case.preparation.placing == "stretched":
            size = (image.shape[0], image.shape[1])
            mask, valid = stretch_labels(mask, size), stretch_labels(valid, size)
        if patch is not None:
            top, left = corner(mask, valid, patch, self.foreground, torch.Generator().manual_seed(seed))
            window = np.s_[top : top + patch[0], left : left + patch[1]]
            return Decoded(image[window], mask[window], valid[window])
        if grid is not None:
            return Decoded(image, letterbox_labels(mask, grid), letterbox_labels(valid, grid))
        return Decoded(image, mask, valid)


class EvaluationBatches(Dataset[Batch]):
    """Whole cases, addressed by their indices; mask and valid pixels are on the grid as read.

    A volume is a batch of its own: its slices in order.

    Args:
        cases: The cases, in order.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        cases = [self.cases[index] for index in indices]
        batch = to_batch([Sample(*decoded, case) for case in cases for decoded in case.load_all()])
        if any(case.facts.volume for case in cases):
            batch["spacing"] = torch.tensor([cases[0].facts.spacing] * len(batch["case"]))
        return batch


class Shuffled(Sampler[list[Place]]):
    """The places of every batch: one pass over all samples, or shuffled passes until there are enough batches.

    Args:
        samples: Number of samples: images, and slices of volumes.
        batch_size: Samples in a batch; the last batch of a single pass may be smaller.
        steps: Number of full batches, or None for one pass.
        seed: Of this epoch.
    """

    def __init__(self, samples: int, batch_size: int, steps: int | None, seed: int) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size) if self.steps is None else self.steps

    def __iter__(self) -> Iterator[list[Place]]:
        order = self._order()
        for start in range(0, len(order), self.batch_size):
            yield [Place(start + i, index) for i, index in enumerate(order[start : start + self.batch_size])]

    def _order(self) -> list[int]:
        samples = self.samples if self.steps is None else self.steps * self.batch_size
        passes = -(-samples // self.samples)
        shuffled = [torch.randperm(self.samples, generator=generator(self.seed, "pass", k)) for k in range(passes)]
        return torch.cat(shuffled)[:samples].tolist() if shuffled else []


class Drawn(Sampler[list[Place]]):
    """The places of batches of patients: one image or slice, drawn at random, of every patient of a draw.

    Args:
        patients: For every patient the indices of its samples.
        draws: Indices of patients, one list a batch.
        seed: Of the choice among a patient's samples.
    """

    def __init__(self, patients: Sequence[Sequence[int]], draws: Sequence[Sequence[int]], seed: int) -> None:
        self.patients = patients
        self.draws = draws
        self.seed = seed

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[list[Place]]:
        position = count()
        for draw in self.draws:
            yield [self._place(next(position), self.patients[patient]) for patient in draw]

    def _place(self, position: int, samples: Sequence[int]) -> Place:
        chosen = torch.randint(len(samples), (), generator=generator(self.seed, "case", position))
        return Place(position, samples[int(chosen)])


class InOrder(Sampler[list[int]]):
    """Batches of indices in order.

    Args:
        cases: Number of cases.
        batch_size: Cases in a batch; the last one may be smaller.
    """

    def __init__(self, cases: int, batch_size: int) -> None:
        self.cases = cases
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.cases // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.cases, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.cases)))


def batches(
    dataset: Dataset[Batch], sampler: Sampler[list[Place]] | Sampler[list[int]], workers: int, seed: int
) -> DataLoader[Batch]:
    """Makes a loader whose data set builds whole batches, which saves one tensor per sample and key."""
    # a generator of its own: without one, every pass over a loader draws from torch's global generator
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        generator=generator(seed, "workers"),
    )


def _unchanged(batch: Any) -> Any:
    return batch


def by_patient(cases: Sequence[Case]) -> list[list[int]]:
    """Returns for every patient of an institution the indices of its images and slices, in the order they come in."""
    patients: dict[tuple[str, str], list[int]] = defaultdict(list)
    index = count()
    for case in cases:
        patients[case.site, case.group].extend(next(index) for _ in range(case.facts.slices))
    return list(patients.values())


def to_batch(samples: Sequence[Sample]) -> Batch:
    """Normalises samples of one size and joins them."""
    return Batch(
        image=to_images([sample.image for sample in samples], [sample.case.normaliser for sample in samples]),
        mask=torch.from_numpy(np.stack([sample.mask for sample in samples])).long(),
        valid=torch.from_numpy(np.stack([sample.valid for sample in samples])),
        case=[sample.case.name for sample in samples],
        spacing=torch.tensor([sample.case.facts.spacing[-2:] for sample in samples], dtype=torch.float32),
        size=torch.tensor([sample.case.facts.size for sample in samples]),
    )
