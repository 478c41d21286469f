"""Converts somebody's copy of a data set, case by case, so that it can be killed at any moment and started again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlight import __version__
from fedlight.data.conversion import encoding, provenance
from fedlight.data.conversion.journal import Journal, Written
from fedlight.data.conversion.readings import Grid, Reading, UnusableError
from fedlight.data.conversion.record import Record
from fedlight.data.conversion.reduction import reduce_fov, reduce_image, reduce_mask, reduced_size
from fedlight.data.conversion.survey import Plan, survey
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset
from fedlight.errors import ConfigError
from fedlight.run_lock import hold
from fedlight.serialization import write_bytes

Progress = Callable[[int, int], None]
"""Is told how many cases are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One data set, from one folder into another.

    Attributes:
        dataset: What the copy is a copy of.
        source: The copy.
        root: Where the sites are written; new, empty, or begun by the same conversion.
        sites: Names of the sites to convert; all if empty.
        longest_side: Pixels that the longer side of a picture is reduced to; None leaves pictures as they are.
        incomplete: Whether a copy that lacks something will do.
    """

    dataset: Dataset
    source: Path
    root: Path
    sites: tuple[str, ...] = ()
    longest_side: int | None = None
    incomplete: bool = False

    def run(self, progress: Progress = lambda done, total: None) -> Outcome:
        """Converts what is not converted yet.

        Raises:
            ConfigError: If the copy, the root or a setting cannot be used.
            BlockingIOError: If another process writes into the root.
        """
        self._check()
        plan = survey(self.dataset, Tree(self.source), self.sites, self.incomplete)
        journal = Journal(self.root, self._settings())
        journal.check()
        with hold(self.root):
            journal.open()
            before = len(journal.written)
            if not journal.complete:
                self._convert(plan, journal, progress)
                provenance.write(self, plan, journal)
                journal.close()
        (self.root / "lock").unlink(missing_ok=True)
        return Outcome(plan, journal, before)

    def _check(self) -> None:
        if not self.source.is_dir():
            raise ConfigError(
                f"--source {self.source} is not a folder. {self.dataset.title}: {self.dataset.get} Unpack its archives."
            )
        if self.root.resolve() == self.source.resolve():
            raise ConfigError("--root is the folder of --source. Name another for what is written.")
        if self.longest_side is not None and (self.dataset.volumes or self.longest_side < 1):
            what = (
                "volumes are never resampled: leave it out" if self.dataset.volumes else "give 1 or more, such as 512"
            )
            raise ConfigError(f"--longest_side is {self.longest_side}: {what}.")

    def _settings(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            **self.dataset.chosen,
            "sites": list(self.sites),
            "longest_side": self.longest_side,
            "fedlight": __version__,
        }

    def _convert(self, plan: Plan, journal: Journal, progress: Progress) -> None:
        done = 0
        for site, records in plan.records.items():
            for record in records:
                if (site, record.name) not in journal.written:
                    journal.add(self._attempt(site, record))
                done += 1
                progress(done, len(plan))

    def _attempt(self, site: str, record: Record) -> Written:
        """Converts a case, or says why it cannot be used where a copy that lacks something will do."""
        about = (site, record.name, record.group, record.split or "")
        try:
            files = self._encode(site, record)
        except UnusableError as error:
            if self.incomplete:
                return Written(*about, problem=str(error))
            raise ConfigError(
                f"{site}/{record.name}: {error}. Replace it and start again, or leave such cases out with "
                "--allow_incomplete."
            ) from error
        for name, data in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        return Written(*about, sources=self._sources(record), files=digests)

    def _sources(self, record: Record) -> list[str]:
        paths = (
            path
            for reading in (record.image, record.mask, record.fov, record.second)
            if reading is not None
            for path in reading.paths
        )
        return list(dict.fromkeys(str(path.relative_to(self.source)) for path in paths))

    def _encode(self, site: str, record: Record) -> dict[str, bytes]:
        """Returns the files of a case; the image is the last, so that masks without an image were interrupted."""
        image = record.image.read()
        encode = self._volume if self.dataset.volumes else self._picture
        parts = {"masks_annotator2": record.second, "fov": record.fov, "masks": record.mask}
        ending = ".nii.gz" if self.dataset.volumes else ".png"
        files = {
            f"{site}/{folder}/{record.name}{ending}": encode(folder, self._read(reading, folder, image))
            for folder, reading in parts.items()
            if reading is not None
        }
        return {**files, f"{site}/images/{record.name}{ending}": encode("images", image)}

    def _read(self, reading: Reading, folder: str, image: Grid) -> Grid:
        grid = reading.read()
        wanted = image.values.shape if self.dataset.volumes else image.values.shape[:2]
        if grid.values.shape != wanted:
            sizes = " and its image ".join("x".join(map(str, shape)) for shape in (grid.values.shape, wanted))
            raise UnusableError(f"{reading.paths[0]} is {sizes}")
        if folder != "fov" and grid.values.max() >= len(self.dataset.classes):
            raise UnusableError(f"{reading.paths[0]} has more classes than {', '.join(self.dataset.classes)}")
        return grid

    def _volume(self, folder: str, grid: Grid) -> bytes:
        return encoding.nifti(grid)

    def _picture(self, folder: str, grid: Grid) -> bytes:
        values: npt.NDArray[Any] = grid.values
        size = reduced_size((values.shape[0], values.shape[1]), self.longest_side)
        if folder == "images":
            return encoding.png(reduce_image(values, size))
        if folder == "fov":
            return encoding.png(reduce_fov((values > 0).astype(np.uint8) * np.uint8(255), size))
        mask = reduce_mask(values, size, len(self.dataset.classes), self.dataset.reach)
        return encoding.png(mask * np.uint8(255) if len(self.dataset.classes) == 2 else mask)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a conversion did.

    Attributes:
        plan: What there was to convert.
        journal: What was written.
        before: How many cases were there already.
    """

    plan: Plan
    journal: Journal
    before: int

    @property
    def cases(self) -> Mapping[str, int]:
        """Cases that were written, by site."""
        written = self.journal.written.values()
        return {site: sum(each.site == site and bool(each.files) for each in written) for site in self.plan.records}
