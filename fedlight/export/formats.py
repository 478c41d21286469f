"""Every format by the name that a command line gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fedlight.export.bundle import MonaiBundle
from fedlight.export.format import Format
from fedlight.export.onnx import Onnx
from fedlight.export.safetensors import Safetensors
from fedlight.export.torchscript import TorchScript

Name = Literal["onnx", "torchscript", "safetensors", "monai-bundle"]

FORMATS: Mapping[Name, Format] = {
    "onnx": Onnx(),
    "torchscript": TorchScript(),
    "safetensors": Safetensors(),
    "monai-bundle": MonaiBundle(),
}
