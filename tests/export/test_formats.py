"""What is written gives the network's logits, also at sizes that were not compared, and nothing else is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fedlight_algorithms import HistogramMatching
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedlight.data.preparation import Normalise, histograms, normaliser, to_images
from fedlight.errors import ConfigError, ExportError
from fedlight.export import format as formats_base
from fedlight.export.comparison import TOLERANCE, Comparison, difference
from fedlight.export.exporter import _segmentation, write_model
from fedlight.export.format import Exportable
from fedlight.export.formats import FORMATS
from fedlight.export.graph import Percentile, ZScore
from fedlight.export.safetensors import Safetensors
from tests.export.models import exportable, folders

BINARY = {"classes": ("background", "vessel"), "patch_size": 16}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gives_the_networks_logits_at_sizes_that_were_not_compared(name: Any, tmp_path: Path) -> None:
    model = exportable(folders(normalise="z-score", **BINARY), encoder_depth=3)
    sentences = write_model(FORMATS[name], model, tmp_path / "out")
    assert "the largest difference is" in sentences[0]
    reopened = FORMATS[name].reopen(model, tmp_path / "out")
    for size in ((1, 8, 16), (4, 24, 40)):
        inputs = model.graph.example(*size)
        with torch.no_grad():
            assert float(difference(model.graph(*inputs), reopened(*inputs))) <= TOLERANCE
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    data = (tmp_path / "out" / about["file"]["name"]).read_bytes()
    assert about["file"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert list(about["inputs"]) == ["images", "mean", "deviation"]
    assert (tmp_path / "out" / "model_card.md").read_text() == model.card


@pytest.mark.parametrize("kind", ["none", "z-score", "percentile"])
def test_a_graph_normalises_as_the_data_module_does(kind: Normalise) -> None:
    """Whole image, 8 bits; the second channel is constant, which is only shifted."""
    model = exportable(folders(normalise=kind, **BINARY))
    pixels = np.random.default_rng(1).integers(20, 200, (16, 24, 3)).astype(np.uint8)
    pixels[..., 1] = 77
    scale = normaliser(kind, histograms(pixels, np.ones((16, 24), np.bool_)))
    plain = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    values = plain.flatten(2)  # (1, 3, pixels)
    ranks = values.sort(-1).values
    given = {
        "none": (),
        "z-score": (values.mean(-1), values.std(-1, correction=0)),
        "percentile": tuple(ranks[..., int(np.ceil(share * 384)) - 1] for share in (0.01, 0.99)),
    }[kind]
    with torch.no_grad():
        expected = model.task(to_images([pixels], [scale]))
        torch.testing.assert_close(model.graph(plain, *given), expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_a_volume_hold_for_a_slice_and_its_neighbours() -> None:
    """One mean and deviation for three channels: what is 0.5 everywhere becomes (0.5 - 0.25) / 0.5 = 0.5."""
    seen: list[Tensor] = []
    network = torch.nn.Module()
    network.forward = seen.append
    ZScore(network, 3, neighbours=3)(torch.full((2, 3, 8, 8), 0.5), torch.full((2, 1), 0.25), torch.full((2, 1), 0.5))
    torch.testing.assert_close(seen[0], torch.full((2, 3, 8, 8), 0.5))


def test_percentiles_are_cut_off() -> None:
    """Between 0.2 and 0.6: 0.1 is below, 0.3 a quarter of the way, 0.9 beyond."""
    seen: list[Tensor] = []
    network = torch.nn.Module()
    network.forward = seen.append
    Percentile(network, 1)(
        torch.tensor([0.1, 0.3, 0.9]).reshape(1, 1, 1, 3), torch.tensor([[0.2]]), torch.tensor([[0.6]])
    )
    torch.testing.assert_close(seen[0].flatten(), torch.tensor([0.0, 0.25, 1.0]))


# --- what must not be kept -------------------------------------------------------------------------------------------


class Tampered(Safetensors):
    """Writes a file in which one weight is another."""

    def __init__(self, by: float) -> None:
        self.by = by

    def write(self, model: Exportable, folder: Path) -> None:
        super().write(model, folder)
        path = folder / self.file
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        state = load_file(path)
        name = next(iter(state))
        state[name] = state[name] + self.by
        save_file(state, path, metadata)


@pytest.mark.parametrize("by", [0.5, float("nan")], ids=["another", "nan"])
def test_a_file_with_another_weight_is_noticed_and_not_kept(by: float, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"model.safetensors must give the network's logits to 0.0001, but they differ"
    ):
        write_model(Tampered(by), exportable(folders(**BINARY)), tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Safetensors, "reopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_model(Safetensors(), exportable(folders(**BINARY)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_run_is_one_sentence_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("Non-zero status code\nat node 3")

    monkeypatch.setattr(Safetensors, "reopen", lambda *_: broken)
    with pytest.raises(ExportError) as error:
        write_model(Safetensors(), exportable(folders(**BINARY)), tmp_path / "out")
    assert str(error.value) == (
        "model.safetensors cannot be run at every size (Non-zero status code). It is not kept; choose another format."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_a_share_of_large_logits_only() -> None:
    """Of logits up to 50, 0.01 apart: 0.0002. Of logits up to 0.5, 0.01 apart: 0.01. Of another shape: infinite."""
    assert float(difference(torch.tensor([50.0, 1.0]), torch.tensor([50.0, 1.01]))) == pytest.approx(2e-4, rel=1e-3)
    assert float(difference(torch.tensor([0.5]), torch.tensor([0.51]))) == pytest.approx(0.01, rel=1e-3)
    assert float(difference(torch.zeros(1, 2), torch.zeros(2, 1))) == float("inf")
    Comparison(TOLERANCE, ()).check("file")
    for wrong in (TOLERANCE * 1.01, float("nan")):
        with pytest.raises(ExportError):
            Comparison(wrong, ()).check("file")


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_harmonises_images_is_refused_and_never_left_out() -> None:
    model = exportable(folders(**BINARY))
    plugin = HistogramMatching()
    plugin.instance_id = "HistogramMatching"
    model.task.harmonisers = [(plugin, {})]
    with pytest.raises(ConfigError, match="HistogramMatching changes every image before the network sees it"):
        _segmentation(model.task)


@pytest.mark.parametrize("setting", [{"context": 1}, {"spacing": 1.0}, {"intensity_window": (0, 1)}])
def test_a_bundle_of_volumes_is_refused(setting: dict[str, Any], tmp_path: Path) -> None:
    model = exportable(folders(channels=1, **BINARY, **setting))
    with pytest.raises(ConfigError, match="monai-bundle must be made of a run on images"):
        write_model(FORMATS["monai-bundle"], model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats_base, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        FORMATS["onnx"].check_installed("onnx")
    assert str(error.value) == (
        "onnx needs onnx and onnxscript and onnxruntime, which are not installed. "
        "Get them with: pip install 'fedlight[export]'."
    )
    FORMATS["torchscript"].check_installed("torchscript")


def test_a_network_that_the_exporter_cannot_take_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("\nno such operator\nand a long report")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ExportError) as error:
        write_model(FORMATS["onnx"], exportable(folders(**BINARY)), tmp_path / "out")
    assert str(error.value) == "this network cannot be written as ONNX (no such operator). Choose another format."
    assert list(tmp_path.iterdir()) == []


def test_slices_are_described() -> None:
    data = folders(channels=1, context=1, spacing=(2.0, 1.0), axis="sagittal", intensity_window=(-160, 240), **BINARY)
    about = exportable(data).about
    assert about["inputs"]["images"]["shape"] == ["batch", 3, "height", "width"]
    assert about["preparation"]["volumes"] == {
        "axis": "sagittal",
        "intensity_window": [-160, 240],
        "spacing_mm": [2.0, 1.0],
        "context": 1,
    }
    assert "sagittal slices and bring -160 and 240 to 0 and 1" in about["steps"][1]
    assert about["decision"] == {"activation": "sigmoid", "threshold": 0.5, "above": "vessel", "else": "background"}
    assert about["inference"]["window"] == [16, 16]
