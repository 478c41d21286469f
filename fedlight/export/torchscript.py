"""TorchScript: one file for torch alone, in Python or C++, without fedlight and segmentation_models_pytorch.

torch deprecates TorchScript and still reads it; programs of clinics and MONAI do too, so it is written without torch's
warnings, which are for those who write new programs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from fedlight.errors import ExportError
from fedlight.export.format import Exportable, Format, first_words
from fedlight.export.graph import Graph

DESCRIPTION = "fedlight.json"
"""Name of the description inside the file."""


class TorchScript(Format):
    """Writes ``model.ts``, a trace of the network."""

    file = "model.ts"

    def write(self, model: Exportable, folder: Path) -> None:
        """Traces the network and writes it."""
        write_trace(model.graph, model, folder / self.file)

    def reopen(self, model: Exportable, folder: Path) -> Callable[..., Tensor]:
        """Loads the trace, on the processor."""
        with deprecated():
            loaded: Callable[..., Tensor] = torch.jit.load(folder / self.file, map_location="cpu")  # type: ignore[no-untyped-call]
        return loaded


def write_trace(graph: Graph, model: Exportable, path: Path) -> None:
    """Writes a trace of a graph, with a model's description inside.

    Raises:
        ExportError: If the network cannot be traced.
    """
    multiple = model.task.stride
    example = graph.example(2, 4 * multiple, 6 * multiple)
    try:
        with deprecated(), torch.no_grad():
            # it is compared at other sizes anyway
            traced = torch.jit.trace(graph, example, check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, path, _extra_files={DESCRIPTION: json.dumps(model.about)})
    except RuntimeError as error:
        said = first_words(error)
        raise ExportError(f"this network cannot be traced ({said}). Choose safetensors.") from error


@contextmanager
def deprecated() -> Iterator[None]:
    """Lets torch use TorchScript without saying that it should not be; see the module."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        # sides that do not divide by the stride are refused by conditions, which a trace leaves out
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
