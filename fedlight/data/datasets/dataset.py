"""What a public data set is: who made it, how it may be used, and how its copy on somebody's disk is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from fedlight.data.conversion.download import Download
from fedlight.data.conversion.record import LeftOut, Record
from fedlight.data.conversion.tree import Tree


@dataclass(frozen=True, slots=True)
class Site:
    """An institution of a data set.

    Attributes:
        name: Of its folder.
        title: What it is, in a few words.
        cases: How many cases with masks the distribution has, or several numbers where there are several
            distributions, the usual one first; empty where that is not known.
        get: Where this part of the data set is from, with what it takes to get it; empty if that is the same for all.
    """

    name: str
    title: str
    cases: tuple[int, ...] = ()
    get: str = ""


class Dataset(ABC):
    """A public data set of several institutions.

    A subclass is a frozen dataclass whose fields are choices that a user has, each with a default, its possible values
    as a ``Literal`` and ``metadata={"help": ...}``. Its docstring shows the layout that ``records`` expects.

    Attributes:
        name: In the command line.
        title: A name for people.
        channels: Of an image, 1 or 3.
        volumes: Whether a case is a volume.
        reach: Share of its area from which on a pixel of a reduced mask of two classes is foreground.
        group: The regular expression by which ``FolderSites`` finds the patient in the name of a case; None where every
            case counts as a patient.
        splits: Whether the owners' split can train and test at every site, so that ``splits.csv`` is worth writing.
        licence: What the owners allow, and whether that was seen or is recalled.
        citation: Papers to cite.
        get: Where copies are from, and whether that takes a registration.
        protocol: How papers use it.
        steps: What the conversion does, beside what it does to all data sets; a sentence each.
        downloads: What may be fetched without a registration.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    channels: ClassVar[int] = 3
    volumes: ClassVar[bool] = False
    reach: ClassVar[float] = 0.5
    group: ClassVar[str | None] = None
    splits: ClassVar[bool] = False
    licence: ClassVar[str]
    citation: ClassVar[tuple[str, ...]]
    get: ClassVar[str]
    protocol: ClassVar[str]
    steps: ClassVar[tuple[str, ...]] = ()
    downloads: ClassVar[tuple[Download, ...]] = ()

    @property
    def chosen(self) -> dict[str, Any]:
        """What the user chose, by name."""
        chosen: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass
        return chosen

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""

    @abstractmethod
    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """Returns the institutions; with a copy at hand, those that it names.

        Raises:
            LayoutError: If the copy does not say which there are.
        """

    @abstractmethod
    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Yields what a copy has of a site.

        Raises:
            LayoutError: If something is not where the layout has it.
        """
