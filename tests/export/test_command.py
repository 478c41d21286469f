"""``fedlight export`` as a user meets it, on one tiny run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fedlight_algorithms import Ditto, FedPer
from safetensors.torch import load_file

from fedlight.__main__ import main
from fedlight.checkpoint import SiteStore
from fedlight.errors import ConfigError
from fedlight.federation import Federation
from fedlight.tasks import SegmentationTask
from tests.conftest import small_sites, small_task
from tests.export.models import write_picture

CONFIG = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")
SMALL = [
    *("--data.image_size", "16", "--data.cases", "6", "--data.batch_size", "2", "--model.encoder", "plain-8"),
    *("--federation.rounds", "3", "--federation.local_steps", "1", "--trainer.accelerator", "cpu"),
]

Federate = Callable[..., Federation]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rounds, scored."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["fit", "-c", CONFIG, *SMALL, "--federation.run_folder", str(folder)]) == 0
    assert main(["test", "--run", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("which", ["selected", "last"])
def test_weights_are_those_of_the_chosen_model(trained: Path, which: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "--run", str(trained), "--format", "safetensors", "--output", "out", "--which", which]
    assert main(command) == 0
    assert "the largest difference is 0, 0.0001 are allowed" in capsys.readouterr().out
    file = trained / ("global.ckpt" if which == "selected" else "last.ckpt")
    task = SegmentationTask.load_from_checkpoint(file, map_location="cpu", weights_only=True)
    weights = load_file("out/model.safetensors")
    assert weights.keys() == task.network.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in task.network.state_dict().items())
    about = json.loads(Path("out/model.json").read_text())
    saved = torch.load(file, weights_only=True)["fedlight"]
    assert (about["run"]["round"], about["run"]["which"]) == (saved["round"], which)


def test_the_card_of_a_run_has_every_score_of_its_files_and_no_case(trained: Path) -> None:
    assert main(["export", "--run", str(trained), "--format", "card", "--output", "cards/card.md"]) == 0
    text = Path("cards/card.md").read_text()
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    tested = {(row["split"], row["site"]): row for row in rows if row["kind"] == "test"}
    index = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"]
    assert len(index) == len(tested) == 5
    for one in index:
        row = tested[one["dataset"]["split"], one["dataset"]["name"].split(" ")[0]]
        assert [metric["value"] for metric in one["metrics"]] == [row[metric["type"]] for metric in one["metrics"]]
        assert f"| {row['cases']} | {row['dice']:.4f} | {row['iou']:.4f} |" in text
    cases = {line.split(",")[2] for line in (trained / "held_out_cases.csv").read_text().splitlines()[1:]}
    assert cases
    assert not [case for case in cases if case in text]
    assert str(trained) not in text
    assert list(Path("cards").iterdir()) == [Path("cards/card.md")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--run", "nowhere", "--format", "onnx", "--output", "x"], "nowhere is not a run folder"),
        (["--format", "onnx", "--output", "x"], "export needs a trained run, got nothing. Name its folder"),
        (["--run", "RUN", "--output", "x"], "--format must be given, got nothing."),
        (
            ["--run", "RUN", "--format", "onyx", "--output", "x"],
            "format must be one of onnx, torchscript, safetensors, m",
        ),
        (["--run", "RUN", "--format", "onnx", "--output", "there"], "output must be free, got there, which exists."),
        (["--run", "RUN", "--format", "onnx", "--output", "a.onnx"], "output must be a folder, as a network goes with"),
        (["--run", "RUN", "--format", "card", "--output", "card"], "output must be a file that ends in .md for a card"),
        (
            ["--run", "RUN", "--format", "card", "--output", "x.md", "--site", "site1"],
            "site must be left out: this run",
        ),
        (
            ["--run", "RUN", "--format", "card", "--output", "x.md", "--data.normalise", "z-score"],
            "a run is exported with the config that it was trained with, got another: data.init_args.normalise",
        ),
        (["--run", "EMPTY", "--format", "card", "--output", "x.md"], "holds no trained model (global.ckpt)."),
        (["--run", "TORN", "--format", "card", "--output", "x.md"], "TORN/global.ckpt is damaged"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value[-3:]),
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    trained: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("there").mkdir()
    broken = {"EMPTY": None, "TORN": b"hello"}
    for name, content in broken.items():
        if name in arguments:
            shutil.copytree(trained, name)
            Path(name, "global.ckpt").unlink() if content is None else Path(name, "global.ckpt").write_bytes(content)
    before = set(Path.cwd().iterdir())
    assert main(["export", *(str(trained) if argument == "RUN" else argument for argument in arguments)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert set(Path.cwd().iterdir()) == before


# --- models of sites -------------------------------------------------------------------------------------------------


def exported(federation: Federation, run: Path, site: str | None, **choice: Any) -> dict[str, torch.Tensor]:
    output = f"{site}-{len(list(Path.cwd().iterdir()))}"
    federation.export(small_task(), small_sites(), "safetensors", output, site=site, ckpt_path=str(run), **choice)
    return {f"network.{name}": value for name, value in load_file(f"{output}/model.safetensors").items()}


@pytest.mark.parametrize("which", ["selected", "last"])
def test_parameters_that_a_site_keeps_are_in_its_own_file(federate: Federate, which: Any) -> None:
    federation = federate(plugins=[FedPer()], rounds=2, local_steps=1)
    run = federation.fit(small_task(), small_sites()).path
    weights = exported(federation, run, "site2", which=which)
    store = SiteStore(run / "sites" / "site2")
    kept = store.selected() if which == "selected" else store.load(2)
    assert kept is not None
    assert kept["own"]
    assert all(torch.equal(weights[name], value) for name, value in kept["own"].items())
    with pytest.raises(ConfigError, match="site must be one of site1, site2, site3, got nothing"):
        exported(federation, run, None)


def test_a_personal_model_is_the_one_that_is_written_and_that_predicts(federate: Federate) -> None:
    federation = federate(plugins=[Ditto()], rounds=2, local_steps=2)
    run = federation.fit(small_task(), small_sites()).path
    weights = exported(federation, run, "site1")
    kept = SiteStore(run / "sites" / "site1").selected()
    assert kept is not None
    personal = kept["plugins"]["Ditto"]["params"]
    assert personal
    assert all(torch.equal(weights[name], value) for name, value in personal.items())
    write_picture(Path("images/a.png"), 16, 16)
    task = small_task()
    federation.predict(task, small_sites(), "images", "predicted", site="site1", ckpt_path=str(run))
    assert all(torch.equal(task.get_parameter(name), value) for name, value in personal.items())


def test_models_that_are_no_whole_ones_are_refused(federate: Federate) -> None:
    """Statistics that are computed anew from what is predicted, and parameters that are elsewhere."""
    federation = federate(rounds=1, local_steps=1, buffers="recalibrate")
    run = federation.fit(small_task(norm="batch"), small_sites()).path
    with pytest.raises(ConfigError, match="buffers must be average or local for an export, got recalibrate"):
        federation.export(small_task(norm="batch"), small_sites(), "safetensors", "out", ckpt_path=str(run))
    private = federate(plugins=[FedPer()], rounds=1, local_steps=1)
    run = private.fit(small_task(), small_sites()).path
    shutil.rmtree(run / "sites")
    with pytest.raises(ConfigError, match="site must be that of a model in the run's folder, got nothing"):
        exported(private, run, None)
