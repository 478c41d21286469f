"""The contract of a format, and what is written in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from fedlight.data.preparation import Preparation
from fedlight.errors import ConfigError
from fedlight.export.graph import Graph
from fedlight.tasks import SegmentationTask


@dataclass(frozen=True, slots=True)
class Exportable:
    """A trained model that is to be written.

    Attributes:
        task: Holds the network, in evaluation mode.
        graph: The network with normalisation in front of it.
        preparation: What the data module makes of an image before that; None if it does not say.
        about: What whoever uses the file must know, plain values.
        card: The model card, Markdown.
        volumes: Whether settings say that the network was made for slices of volumes.
    """

    task: SegmentationTask
    graph: Graph
    preparation: Preparation | None
    about: Mapping[str, Any]
    card: str
    volumes: bool = False


def first_words(error: Exception) -> str:
    r"""Returns the first line of what an error says, for a sentence.

    >>> first_words(RuntimeError("  no such operator\na long report")), first_words(RuntimeError())
    ('no such operator', 'RuntimeError')
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join((lines[0] if lines else type(error).__name__).split())[:200]


class Format(ABC):
    """Writes a model and opens it again."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Packages of the extra ``fedlight[export]`` that it cannot do without."""

    file: ClassVar[str]
    """The model's file in the folder."""

    def check(self, model: Exportable) -> None:  # noqa: B027  # most can write every model
        """Checks that a model can be written in this format, before anything is.

        Raises:
            ConfigError: If it cannot be.
        """

    def check_installed(self, name: str) -> None:
        """Checks that what the format needs is there.

        Raises:
            ConfigError: If it is not.
        """
        missing = [package for package in self.needs if find_spec(package) is None]
        if missing:
            are, them = ("are", "them") if len(missing) > 1 else ("is", "it")
            raise ConfigError(
                f"{name} needs {' and '.join(missing)}, which {are} not installed. "
                f"Get {them} with: pip install 'fedlight[export]'."
            )

    @abstractmethod
    def write(self, model: Exportable, folder: Path) -> None:
        """Writes a model into a folder that is there."""

    @abstractmethod
    def reopen(self, model: Exportable, folder: Path) -> Callable[..., Tensor]:
        """Returns what maps the inputs of the model's graph to logits; its weights are those of the file."""
