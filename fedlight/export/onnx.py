"""ONNX: one graph for ONNX Runtime and whatever else reads it, with any batch, height and width."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fedlight.errors import ExportError
from fedlight.export.format import Exportable, Format, first_words

KEY = "fedlight"
"""Under which the description is in a file's own metadata, too."""


class Onnx(Format):
    """Writes ``model.onnx``; torch takes the graph by torch.export, not by tracing."""

    needs = ("onnx", "onnxscript", "onnxruntime")
    file = "model.onnx"

    def write(self, model: Exportable, folder: Path) -> None:
        """Writes the graph, its weights inside."""
        graph, multiple = model.graph, model.task.stride
        image = {0: "batch", 2: "height", 3: "width"}
        alike = {0: torch.export.Dim.AUTO}  # torch finds that it is the batch; to be told so is worth a warning to it
        try:
            program = torch.onnx.export(
                graph,
                graph.example(2, 4 * multiple, 6 * multiple),  # a batch of one would be taken for fixed
                dynamo=True,
                input_names=graph.inputs,
                output_names=("logits",),
                dynamic_shapes=(image, *(alike for _ in graph.statistics)),
                verbose=False,
            )
        except Exception as error:  # as many kinds as there are steps
            said = first_words(error)
            raise ExportError(f"this network cannot be written as ONNX ({said}). Choose another format.") from error
        assert program is not None  # as no file was named
        program.model.metadata_props[KEY] = json.dumps(model.about)
        program.save(folder / self.file, external_data=False)

    def reopen(self, model: Exportable, folder: Path) -> Callable[..., Tensor]:
        """Opens the file with ONNX Runtime, on the processor."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised
        session = onnxruntime.InferenceSession(folder / self.file, options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]

        def run(*inputs: Tensor) -> Tensor:
            given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
            return torch.from_numpy(session.run(None, given)[0])

        return run
