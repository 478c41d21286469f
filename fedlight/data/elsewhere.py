"""Data that is not here: what a server knows of sites whose images it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy.typing as npt

from fedlight.batch import Batch
from fedlight.data.federated import FederatedDataModule
from fedlight.data_format import DataFormat


class DataElsewhere(FederatedDataModule):
    """The names of the sites and what their images are like, as agreed; their cases are at the sites.

    Args:
        agreed: How data is described in the config; nothing of it is read.
        sites: The sites that train.
    """

    def __init__(self, agreed: FederatedDataModule, sites: Sequence[str]) -> None:
        super().__init__()
        self.agreed = agreed
        self._sites = tuple(sorted(sites))

    def prepare(self) -> None:
        """Does nothing: every site reads and checks its own."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that train."""
        return self._sites

    @property
    def held_out_sites(self) -> tuple[str, ...]:
        """The institutions that take no part in training."""
        return self.agreed.held_out_sites

    def institutions(self, site: str) -> tuple[str, ...]:
        """The site itself."""
        return (site,)

    @property
    def format(self) -> DataFormat:
        """What images and masks are like."""
        return self.agreed.format

    def num_samples(self, site: str) -> NoReturn:
        """Is known at the site."""
        raise self._absent(site)

    def train_loader(self, site: str, *, seed: int, steps: int | None = None) -> NoReturn:
        """Is there at the site."""
        raise self._absent(site)

    def loader(self, institution: str, stage: str) -> NoReturn:
        """Is there at the institution."""
        raise self._absent(institution)

    def read(self, path: Path) -> Batch:
        """Returns one image that is here, prepared as agreed."""
        return self.agreed.read(path)

    def write(self, array: npt.NDArray[Any], like: Path, target: Path) -> Path:
        """Writes a map of a volume that is here."""
        return self.agreed.write(array, like, target)

    @staticmethod
    def _absent(institution: str) -> LookupError:
        return LookupError(f"the data of {institution} is at {institution}, not here")
