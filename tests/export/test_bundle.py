"""A bundle makes of image files what ``fedlight predict`` makes of them, with MONAI alone, and MONAI finds it valid."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata
from PIL import Image

from fedlight.errors import ConfigError
from fedlight.export.exporter import write_model
from fedlight.export.formats import FORMATS
from fedlight.export.torchscript import deprecated
from fedlight.tasks.inference import predict_folder
from tests.export.models import exportable, folders, write_picture

SETTINGS: dict[str, dict[str, Any]] = {
    "boxed": {"image_size": (24, 32), "normalise": "z-score", "classes": ("background", "vessel")},
    "windows": {"patch_size": 16, "normalise": "percentile", "classes": ("background", "disc", "cup")},
    "plain": {"image_size": 24, "classes": ("background", "disc", "cup")},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bundle_segments_files_as_predict_does(name: str, tmp_path: Path) -> None:
    """Sides that divide by nothing, one of them smaller than the window, higher than wide."""
    data = folders(**SETTINGS[name])
    model = exportable(data)
    path = write_picture(tmp_path / "images" / "a.png", 37, 14)
    write_model(FORMATS["monai-bundle"], model, tmp_path / "bundle")
    predict_folder(model.task, data, [path], tmp_path / "predicted")
    with Image.open(tmp_path / "predicted" / "masks" / "a.png") as image:
        expected = np.asarray(image)
    assert run(tmp_path / "bundle", tmp_path / "images") == {"a": expected.tolist()}
    assert 0.02 < (expected > 0).mean() < 0.98


def run(bundle: Path, images: Path) -> dict[str, Any]:
    """Does what MONAI's evaluator does, which needs ignite: reads, prepares, segments and writes every image."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"], parser["dataset_dir"], parser["device"] = str(bundle), str(images), "cpu"
    with deprecated():
        network = parser.get_parsed_content("network")
    inferer, after = (parser.get_parsed_content(part) for part in ("inferer", "postprocessing"))
    with torch.no_grad():
        for item in parser.get_parsed_content("dataset"):
            after({**item, "pred": inferer(item["image"][None], network)[0]})
    written = {path.parent.name: path for path in sorted((bundle / "eval").rglob("*.png"))}
    return {name: np.asarray(Image.open(path).copy()).tolist() for name, path in written.items()}


def test_the_metadata_of_a_bundle_passes_monais_check(tmp_path: Path) -> None:
    """Against what the specification of bundles asks for; MONAI takes a schema that is there already."""
    tensor = {
        "type": "object",
        "required": [
            *("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range"),
            *("is_patch_data", "channel_def"),
        ],
    }
    named = [*("version", "monai_version", "pytorch_version", "numpy_version", "task", "description")]
    named += ["authors", "copyright"]
    text = {"type": "string", "minLength": 1}
    schema = {
        "type": "object",
        "required": ["schema", "changelog", "required_packages_version", "network_data_format", *named],
        "properties": {
            **dict.fromkeys(named, text),
            "network_data_format": {
                "properties": {
                    "inputs": {"required": ["image"], "additionalProperties": tensor},
                    "outputs": {"required": ["pred"], "additionalProperties": tensor},
                }
            },
        },
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    known = hashlib.md5(json.dumps(schema).encode()).hexdigest()
    write_model(FORMATS["monai-bundle"], exportable(folders(**SETTINGS["boxed"])), tmp_path / "bundle")
    written = str(tmp_path / "bundle" / "configs" / "metadata.json")
    verify_metadata(meta_file=written, filepath=str(tmp_path / "schema.json"), hash_val=known)
    found = {str(path.relative_to(tmp_path / "bundle")) for path in (tmp_path / "bundle").rglob("*") if path.is_file()}
    assert found == {
        *("configs/metadata.json", "configs/inference.json", "models/model.ts", "docs/README.md"),
        *("docs/data_license.txt", "LICENSE", "model.json", "model_card.md"),
    }


def test_a_bundle_needs_to_know_how_images_are_prepared(tmp_path: Path) -> None:
    unknown = replace(exportable(folders(**SETTINGS["plain"])), preparation=None)
    with pytest.raises(ConfigError, match="monai-bundle must know how images are prepared"):
        write_model(FORMATS["monai-bundle"], unknown, tmp_path / "bundle")
