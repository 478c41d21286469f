"""``metadata.json`` of a MONAI bundle: versions, what the model is, and the format of its tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedlight.export.format import Exportable

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""What MONAI's ``verify_metadata`` checks it against; it fetches that file itself."""

OWNER = "FILL IN: the owner"


def metadata(model: Exportable) -> dict[str, Any]:
    """Returns the file's content."""
    import monai  # a second that starting does not need

    classes = " and ".join(model.task.classes[1:])
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "as exported"},
        "monai_version": monai.__version__,
        "pytorch_version": _plain(torch.__version__),
        "numpy_version": np.__version__,
        # MONAI's evaluator is one of ignite's
        "required_packages_version": {"pytorch-ignite": "0.5.5", "pillow": "11.0"},
        "task": f"Segmentation of {classes}",
        "description": f"A 2-D network for {classes}, trained in a federation; docs/README.md is its model card.",
        "authors": OWNER,
        "copyright": OWNER,
        "intended_use": "Research. Not for decisions about patients.",
        "network_data_format": {"inputs": {"image": _image(model)}, "outputs": {"pred": _logits(model)}},
        "fedlight": model.about,
    }


def _image(model: Exportable) -> dict[str, Any]:
    channels = model.task.in_channels
    names = {3: ("red", "green", "blue")}.get(channels, tuple(f"channel {index}" for index in range(channels)))
    normalised = model.preparation is not None and model.preparation.normalise == "z-score"
    return _tensor(model, "magnitude", names) | {"value_range": [] if normalised else [0, 1]}


def _logits(model: Exportable) -> dict[str, Any]:
    classes = model.task.classes
    names = (f"{classes[1]}, where above 0",) if model.task.binary else classes
    return _tensor(model, "segmentation" if model.task.binary else "labels", names) | {"value_range": []}


def _tensor(model: Exportable, format: str, names: tuple[str, ...]) -> dict[str, Any]:
    side = f"{model.task.stride}*n"
    return {
        "type": "image",
        "format": format,
        "modality": "n/a",
        "num_channels": len(names),
        "spatial_shape": [side, side],
        "dtype": "float32",
        "is_patch_data": model.task.window is not None,
        "channel_def": {str(index): name for index, name in enumerate(names)},
    }


def _plain(version: str) -> str:
    return version.split("+")[0]
