"""A MONAI bundle: a folder that MONAI's own programs run, from image files to masks of their size.

The network is TorchScript, as a bundle's ``model.pt`` would need fedlight to be opened. It takes normalised images: the
bundle's own transforms normalise, by what they took of the whole image.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from fedlight.errors import ConfigError, ExportError
from fedlight.export.bundle_inference import inference
from fedlight.export.bundle_metadata import metadata
from fedlight.export.format import Exportable, Format, first_words
from fedlight.export.graph import Plain
from fedlight.export.torchscript import deprecated, write_trace

METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"

LICENCE = """\
FILL IN: the owner of this model has not chosen a licence yet. Until then nobody else may use, copy or pass on the
model. (The program that wrote it, fedlight, is under Apache-2.0; that says nothing about the model.)
"""
DATA_LICENCE = """\
FILL IN: under which terms the images are that this model was trained on. The run does not know. None of them is part
of this bundle.
"""


class MonaiBundle(Format):
    """Writes ``models/model.ts``, ``configs/``, ``docs/`` and ``LICENSE``."""

    file = "models/model.ts"

    def check(self, model: Exportable) -> None:
        """Refuses what its transforms for image files cannot prepare."""
        if model.volumes:
            raise ConfigError(
                "monai-bundle must be made of a run on images, got one on slices of volumes, for which it has no "
                "transforms. Use onnx or torchscript; model.json says how slices are made."
            )
        if model.preparation is None:
            raise ConfigError(
                "monai-bundle must know how images are prepared, which this run's data do not say. "
                "Use onnx or torchscript."
            )

    def write(self, model: Exportable, folder: Path) -> None:
        """Writes the network and all that MONAI reads."""
        assert model.preparation is not None  # checked
        for name in ("configs", "docs", "models"):
            (folder / name).mkdir(exist_ok=True)
        write_trace(_bare(model), model, folder / self.file)
        _write(folder / METADATA, metadata(model))
        _write(folder / INFERENCE, inference(model.task, model.preparation))
        (folder / "docs" / "README.md").write_text(model.card)
        (folder / "docs" / "data_license.txt").write_text(DATA_LICENCE)
        (folder / "LICENSE").write_text(LICENCE)

    def reopen(self, model: Exportable, folder: Path) -> Callable[..., Tensor]:
        """Lets MONAI verify the network against its metadata, then opens it as MONAI would, on the processor."""
        with deprecated(), _silent():
            from monai.bundle import ConfigParser, verify_net_in_out

            files = {"meta_file": str(folder / METADATA), "config_file": str(folder / INFERENCE)}
            try:
                verify_net_in_out("network", device="cpu", n=4, bundle_root=str(folder), **files)
            except (KeyError, ValueError, RuntimeError) as error:
                raise ExportError(f"MONAI refuses the bundle ({first_words(error)}). Choose torchscript.") from error
            parser = ConfigParser()
            parser.read_config(files["config_file"])
            parser["bundle_root"], parser["device"] = str(folder), "cpu"
            network = parser.get_parsed_content("network")
        graph = model.graph
        return type(graph)(network, graph.channels, graph.neighbours).eval()


def _bare(model: Exportable) -> Plain:
    return Plain(model.task.network, model.graph.channels)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps MONAI's report on its arguments from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
