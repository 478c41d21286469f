"""Sites with noise in place of patients: as many cases as it takes, in the format of the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.utils.data import DataLoader

from fedlight.batch import Batch
from fedlight.data.federated import FederatedDataModule, Stage
from fedlight.data_format import DataFormat
from fedlight.randomness import generator

BATCH = 4
"""Cases in a batch of noise; shapes of messages do not depend on it."""


class Specimens(FederatedDataModule):
    """Noise at every site: what leaves it has the shapes of what the real data would let leave, and no patient in it.

    Args:
        data: The real data, of which only the format and the names of institutions are taken.
        cases: Different images that a client sees in a round.
    """

    def __init__(self, data: FederatedDataModule, cases: Mapping[str, int]) -> None:
        super().__init__()
        self._data = data
        self.batch_size = BATCH
        self._cases = dict(cases)

    def prepare(self) -> None:
        """Does nothing."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The clients of the real data."""
        return self._data.sites

    @property
    def held_out_sites(self) -> tuple[str, ...]:
        """Those of the real data."""
        return self._data.held_out_sites

    def institutions(self, site: str) -> tuple[str, ...]:
        """Those of the real data."""
        return self._data.institutions(site)

    @property
    def format(self) -> DataFormat:
        """The format of the real data."""
        return self._data.format

    def num_samples(self, site: str) -> int:
        """As many as there are images of noise."""
        return self._cases[site]

    def train_loader(self, site: str, *, seed: int, steps: int | None = None) -> DataLoader[Batch]:
        """Returns every image once, whatever the steps."""
        cases = self._cases[site]
        starts = range(0, max(cases - 1, 1), BATCH)  # no batch of one, unless there is one image: BatchNorm needs two
        ends = [*starts[1:], cases]
        batches = [self._batch(site, start, end - start) for start, end in zip(starts, ends, strict=True)]
        return DataLoader(batches, batch_size=None, shuffle=False)  # type: ignore[arg-type]

    def patients(self, site: str) -> int:
        """Every image of noise counts as one patient's."""
        return self._cases[site]

    def patient_loader(self, site: str, draws: Sequence[Sequence[int]], *, seed: int) -> DataLoader[Batch]:
        """Returns every image once, whatever was drawn."""
        return self.train_loader(site, seed=seed)

    def loader(self, institution: str, stage: Stage) -> DataLoader[Batch]:
        """Returns two cases, as means over cases are what is reported."""
        return DataLoader([self._batch(institution, 0, 2)], batch_size=None, shuffle=False)  # type: ignore[arg-type]

    def _batch(self, site: str, first: int, size: int) -> Batch:
        height, width = self.format.train_size
        draw = generator(0, "specimen", site, first)
        return {
            "image": torch.rand(size, self.format.channels, height, width, generator=draw),
            "mask": torch.randint(len(self.format.classes), (size, height, width), generator=draw),
            "valid": torch.ones(size, height, width, dtype=torch.bool),
            "case": [f"specimen {first + index}" for index in range(size)],
            "spacing": torch.ones(size, 2),
            "size": torch.tensor([[height, width]] * size),
        }
