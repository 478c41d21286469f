"""The data contract: sites, their splits and their loaders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fedlight.batch import Batch
from fedlight.data_format import DataFormat

Stage = Literal["train", "val", "test"]


class DataError(ValueError):
    """Data that cannot be trained on; every argument is one sentence about one finding."""


class FederatedDataModule(LightningDataModule):
    """Data of several institutions, some of which train together while others may take no part.

    ``prepare`` reads and checks everything once, before any training starts. A site's cases are split into "train",
    "val" and "test"; all cases of a held-out site are "test". With ``pooled``, all training institutions form one
    client called "pooled", which is the reference arm of centralised training.
    """

    batch_size: int
    """Samples in a batch."""

    @abstractmethod
    def prepare(self) -> None:
        """Reads and checks the data of every site; calling it again does nothing.

        Raises:
            DataError: One sentence for every finding.
        """

    def stay_at(self, institution: str, folder: Path | None = None) -> None:
        """Looks at one institution only, before anything is read: the others are elsewhere.

        Args:
            institution: Its name, of a site that trains or of one that takes no part.
            folder: Where its data lies, if it lies in a folder.

        Raises:
            DataError: If this kind of data cannot be looked at one institution at a time.
        """
        raise DataError(f"{type(self).__name__} cannot be read one institution at a time. Use FolderSites.")

    @property
    @abstractmethod
    def sites(self) -> tuple[str, ...]:
        """The clients of the federation, sorted: institutions without the held-out ones, or ("pooled",)."""

    @property
    @abstractmethod
    def held_out_sites(self) -> tuple[str, ...]:
        """The institutions that take no part in training, sorted; most often one, or none."""

    @abstractmethod
    def institutions(self, site: str) -> tuple[str, ...]:
        """The institutions whose data a client has: itself, or all of them when pooled."""

    @property
    @abstractmethod
    def format(self) -> DataFormat:
        """What images and masks are like; known without reading them."""

    @abstractmethod
    def num_samples(self, site: str) -> int:
        """The number of training samples of a client: images, and slices of volumes."""

    @property
    def distance_unit(self) -> Literal["mm", "px"]:
        """Unit of surface distances: "mm" where all cases say how large their pixels are, else "px"."""
        return "px"

    @abstractmethod
    def train_loader(self, site: str, *, seed: int, steps: int | None = None) -> DataLoader[Batch]:
        """Returns the training batches of a client for one epoch, or for ``steps`` steps, shuffled by ``seed``.

        With ``steps``, whole passes over the data follow each other, each shuffled anew, until there are enough
        full batches. All randomness of shuffling, patches and transforms comes from ``seed``.
        """

    def patients(self, site: str) -> int:
        """The number of patients among the training cases of a client, the unit of example-level privacy."""
        raise NotImplementedError(f"{type(self).__name__} does not know patients")

    def patient_loader(self, site: str, draws: Sequence[Sequence[int]], *, seed: int) -> DataLoader[Batch]:
        """Returns one training batch a draw, in which every drawn patient has one sample of one of its cases.

        Args:
            site: The client.
            draws: Indices of patients, at most once in a draw. A draw of none gives an image without a valid pixel,
                which has no gradient.
            seed: Of everything else that is random: which case of a patient, patches, transforms.
        """
        raise NotImplementedError(f"{type(self).__name__} does not know patients")

    @abstractmethod
    def loader(self, institution: str, stage: Stage) -> DataLoader[Batch]:
        """Returns the cases of an institution for evaluation, in a fixed order, without augmentation."""

    def read(self, path: Path) -> Batch:
        """Returns one image or volume without a mask as an evaluation batch, prepared like the cases of a site.

        Raises:
            DataError: If the file cannot be read as one with the right number of channels.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot read single images")

    def write(self, array: npt.NDArray[Any], like: Path, target: Path) -> Path:
        """Writes a map of a volume on the grid of the file that the volume was read from, with its geometry.

        Args:
            array: (S, H, W), or (S, H, W, K) of several maps, in the order of the slices that ``read`` returned.
            like: The file.
            target: Where to write to, without an ending; the folder must exist.

        Returns:
            The file that was written.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot write volumes")

    def describe(self) -> list[dict[str, Any]]:
        """Returns one row of plain values a site, for the run folder: cases in every split and image sizes."""
        return []
