"""What the numbers in the masks of a data set mean: each of these makes class indices, uint8, of what others read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedlight.data.conversion.readings import Grid, Reading, UnusableError
from fedlight.data.findings import listing

DARK = 25
"""A pixel whose brightest channel, of 255, is not above this lies outside the field of view of a fundus camera."""


@dataclass(frozen=True, slots=True)
class Above(Reading):
    """Class 1 from a value on, background below it: for soft edges, JPEG, 0 and 255.

    Attributes:
        reading: Values.
        least: The lowest value of the foreground.
    """

    reading: Reading
    least: float = 128

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the values."""
        return self.reading.paths

    def read(self) -> Grid:
        """Reads and compares."""
        grid = self.reading.read()
        return grid._replace(values=(grid.values >= self.least).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Bands(Reading):
    """A class for every band of values, so that rounding and JPEG do no harm.

    Attributes:
        reading: Values.
        upper: The highest value of every band but the last, in rising order.
        classes: The class of every band.
    """

    reading: Reading
    upper: tuple[float, ...]
    classes: tuple[int, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the values."""
        return self.reading.paths

    def read(self) -> Grid:
        """Reads and looks up."""
        grid = self.reading.read()
        table = np.array(self.classes, dtype=np.uint8)
        return grid._replace(values=table[np.digitize(grid.values, self.upper, right=True)])


@dataclass(frozen=True, slots=True)
class Lookup(Reading):
    """A class for every value; a value without one is an error, never background.

    Attributes:
        reading: Values.
        classes: Value -> class.
    """

    reading: Reading
    classes: Mapping[int, int]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the values."""
        return self.reading.paths

    def read(self) -> Grid:
        """Reads and looks up."""
        grid = self.reading.read()
        result = np.full(grid.values.shape, 255, dtype=np.uint8)
        for value, index in self.classes.items():
            result[grid.values == value] = index
        if (result == 255).any():
            found = listing([f"{value:g}" for value in np.unique(grid.values[result == 255])])
            known = ", ".join(map(str, self.classes))
            raise UnusableError(f"{self.paths[0]} has the values {found}, and the data set says {known} only")
        return grid._replace(values=result)


@dataclass(frozen=True, slots=True)
class Several(Reading):
    """Makes one mask of several.

    Attributes:
        readings: The masks.
    """

    readings: tuple[Reading, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all masks."""
        return tuple(path for reading in self.readings for path in reading.paths)


class Union(Several):
    """Foreground wherever one of several masks of the classes 0 and 1 has it: two lungs, arteries and veins."""

    def read(self) -> Grid:
        """Reads all and takes the largest class of every pixel."""
        grids = [reading.read() for reading in self.readings]
        return grids[0]._replace(values=np.maximum.reduce(_alike(grids, self.paths)))


class Majority(Several):
    """The class that most raters chose; where as many chose another, the first of these raters decides."""

    def read(self) -> Grid:
        """Reads all and counts votes."""
        grids = [reading.read() for reading in self.readings]
        masks = np.stack(_alike(grids, self.paths))  # (raters, ...)
        votes = np.stack([(masks == index).sum(0) for index in range(int(masks.max()) + 1)])  # (classes, ...)
        theirs = np.take_along_axis(votes, masks, axis=0)  # (raters, ...), how many chose what this rater chose
        first = theirs.argmax(0)[None]  # of the raters whose choice has the most votes
        return grids[0]._replace(values=np.take_along_axis(masks, first, axis=0)[0])


@dataclass(frozen=True, slots=True)
class FieldOfView(Reading):
    """The disc of a fundus photograph, found in it: the largest region that is not dark, without holes.

    Attributes:
        reading: The photograph.
    """

    reading: Reading

    @property
    def paths(self) -> tuple[Path, ...]:
        """The photograph."""
        return self.reading.paths

    def read(self) -> Grid:
        """Reads the photograph and looks for its disc."""
        bright = ndimage.binary_opening(self.reading.read().values.max(2) > DARK)
        regions, count = ndimage.label(bright)
        if not count:
            raise UnusableError(f"{self.paths[0]} is dark everywhere")
        largest = regions == np.bincount(regions.ravel())[1:].argmax() + 1
        return Grid(ndimage.binary_fill_holes(largest).astype(np.uint8))


def _alike(grids: list[Grid], paths: tuple[Path, ...]) -> list[npt.NDArray[np.uint8]]:
    """Returns the values of masks that must have one size."""
    if len({grid.values.shape for grid in grids}) > 1:
        sizes = listing(["x".join(map(str, grid.values.shape)) for grid in grids])
        raise UnusableError(f"{paths[0]} and the other masks of its case differ in size ({sizes})")
    return [grid.values for grid in grids]
