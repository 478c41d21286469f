"""safetensors: the weights alone, with the settings in the header from which fedlight rebuilds their network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedlight.export.format import Exportable, Format

KEY = "fedlight"
"""Under which the description is in the header."""


class Safetensors(Format):
    """Writes ``model.safetensors`` with the names that the network itself gives its tensors."""

    file = "model.safetensors"

    def write(self, model: Exportable, folder: Path) -> None:
        """Writes the network's tensors and the description."""
        state = {name: value.detach().cpu().clone() for name, value in model.task.network.state_dict().items()}
        metadata = {"format": "pt", KEY: json.dumps(model.about)}
        save_file({name: value.contiguous() for name, value in state.items()}, folder / self.file, metadata)

    def reopen(self, model: Exportable, folder: Path) -> Callable[..., Tensor]:
        """Rebuilds the network from the file alone, as a reader would."""
        with safe_open(folder / self.file, "pt") as file:
            about = json.loads(file.metadata()[KEY])
        task = type(model.task)(**about["network"]["settings"])
        task.configure_model()
        task.network.load_state_dict(load_file(folder / self.file))
        graph = model.graph
        return type(graph)(task.network, graph.channels, graph.neighbours).eval()
