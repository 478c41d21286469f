"""The command line as a user meets it: what works, and what a mistake is answered with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fedlight.__main__ import main
from fedlight.checkpoint import RunFolder
from fedlight.tasks import SegmentationTask
from tests.contracts.harness import own_registry

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "quickstart.yaml")
SMALL = [
    *("--data.image_size", "16", "--data.cases", "6", "--data.batch_size", "2", "--model.encoder", "plain-8"),
    *("--federation.rounds", "2", "--federation.local_steps", "1", "--trainer.accelerator", "cpu"),
]


@pytest.fixture(autouse=True)
def _own_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The parser looks at the program's arguments; runs go to a folder of their own."""
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.chdir(tmp_path)


def fit(*arguments: str) -> int:
    return main(["fit", "-c", CONFIG, *SMALL, "--federation.run_folder", "run", *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds with moments of features shared."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["fit", "-c", CONFIG, *SMALL, "--federation.run_folder", str(folder)]) == 0
    return folder


# --- what works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["--help", "-h", "--version"])
def test_help_and_version_do_without_torch(argument: str) -> None:
    program = f"import sys; from fedlight.__main__ import main; main([{argument!r}]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "fedlight" in done.stdout


def test_fit_leaves_a_run_folder_that_tells_everything(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "metrics.csv", "global.ckpt", "last.ckpt", "rounds", "sites"} <= names
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows if row["kind"] == "round"] == [1, 2]
    assert {row["site"] for row in rows if row["kind"] == "fit"} == {"site1", "site2", "site3", "site4"}
    assert not [row for row in rows if row.get("site") == "site5"]


def test_the_kept_config_is_resolved_and_runs_again(trained: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["federation"]["aggregator"]["class_path"].endswith("FedAvg")
    assert config["model"]["init_args"]["norm"] == "group"
    again = tmp_path / "again"
    assert main(["fit", "-c", str(trained / "config.yaml"), "--federation.run_folder", str(again)]) == 0
    first, second = RunFolder(trained).load(), RunFolder(again).load()
    assert first is not None
    assert second is not None
    assert all(
        torch.equal(first["server"]["params"][name], value) for name, value in second["server"]["params"].items()
    )


def test_test_needs_nothing_but_the_run_and_scores_the_held_out_site(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--run", str(trained)]) == 0
    table = capsys.readouterr().out
    assert "site5 (held-out)" in table
    assert "HD95" in table
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    held_out = [row for row in rows if row.get("split") == "held-out"]
    assert [row["site"] for row in held_out] == ["site5"]
    assert (trained / "held_out_cases.csv").read_text().count("\n") == 7  # a header and six cases


def test_validate_scores_the_sites_that_trained(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--run", str(trained)]) == 0
    table = capsys.readouterr().out
    assert "site1" in table
    assert "held-out)" not in table


def test_predict_gives_masks_at_the_inputs_own_size(trained: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name, size in (("wide", (40, 21)), ("tall", (17, 33))):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(
            inputs / f"{name}.png"
        )
    (inputs / "broken.png").write_bytes(b"no image")
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained, moved)
    code = main(["predict", "--run", str(moved), "--input", str(inputs), "--output", str(tmp_path / "out")])
    assert code == 1  # one file could not be read
    for name, size in (("wide", (40, 21)), ("tall", (17, 33))):
        with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as mask:
            assert (mask.height, mask.width) == size
    table = (tmp_path / "out" / "predictions.csv").read_text()
    assert "broken" in table
    assert "failed" in table


def test_a_tracker_without_its_package_is_a_mistake_before_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlight.tracking.packages.find_spec", lambda name: None)
    assert fit("--federation.trackers+=MLflowTracker") == 2
    said = capsys.readouterr()
    sentence = (
        "trackers: MLflowTracker needs mlflow, which is not installed. Get it with: pip install 'fedlight[mlflow]'."
    )
    assert (said.out, said.err) == ("", f"fedlight: {sentence}\n")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("command", "output", "place"),
    [
        (["predict", "--input", "a.png"], "a.png", "got a.png (a.png is a file)"),
        (["export", "--format", "card"], "a.png/x.md", "got a.png (a.png is a file)"),
        (["export", "--format", "safetensors"], "/proc/x", "got /proc/x ("),
    ],
)
def test_a_place_where_no_folder_can_be_made_is_a_mistake(
    command: list[str], output: str, place: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((20, 16, 3), np.uint8)).save("a.png")
    assert main([*command, "--run", str(trained), "--output", output]) == 2
    said = capsys.readouterr().err
    assert f"fedlight: output must lie where a folder can be made, {place}" in said
    assert said.endswith(". Name another place.\n")
    assert len(said.splitlines()) == 1


def test_a_run_folder_that_is_a_file_is_a_mistake_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert fit("--federation.run_folder", "file/run") == 2
    assert capsys.readouterr().err.endswith("got file/run (Not a directory). Name another.\n")


def test_a_model_that_was_cut_is_named_with_a_way_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, "cut")
    model = Path("cut/global.ckpt").read_bytes()
    Path("cut/global.ckpt").unlink()  # may be one file with last.ckpt
    Path("cut/global.ckpt").write_bytes(model[: len(model) // 2])
    export = ["export", "--run", "cut", "--format", "card"]
    assert main([*export, "--output", "card.md"]) == 2
    said = "cut/global.ckpt is damaged. Bring it back, or take the last round's with --which last"
    assert said in capsys.readouterr().err
    assert main([*export, "--output", "card.md", "--which", "last"]) == 0


def test_predict_with_views_says_what_its_uncertainty_is(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((20, 16, 3), np.uint8)).save(tmp_path / "a.png")
    predict = ["predict", "--run", str(trained), "--input", "a.png", "--output", "out", "--uncertainty"]
    assert main([*predict, "--tta", "square"]) == 0
    assert "predictive entropy of the mean over views (tta square); 0 is certain" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "uncertainty" / "a.png") as image:
        assert (image.mode, image.size) == ("I;16", (16, 20))
    assert main(predict) == 2  # masks of two calls side by side could not be told apart
    assert "output must be free of results of an earlier call, got out, which holds masks, " in capsys.readouterr().err
    predict[predict.index("out")] = "again"
    assert main(predict) == 0
    assert "predictive entropy of one look at the image (no tta)" in capsys.readouterr().out
    predict[predict.index("again")] = "third"
    assert main([*predict, "--tta", "spin"]) == 2
    assert main([*predict, "--normalise_style"]) == 2
    assert "normalise_style must have statistics of images" in capsys.readouterr().err


def test_global_checkpoint_is_a_lightning_checkpoint(trained: Path) -> None:
    task = SegmentationTask.load_from_checkpoint(trained / "global.ckpt", map_location="cpu")
    assert task(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_configs_compose_and_algorithm_files_append(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    algorithms = ROOT / "configs" / "algorithms"
    with pytest.raises(SystemExit):
        fit("-c", str(algorithms / "mixstyle.yaml"), "-c", str(algorithms / "fedavgm.yaml"), "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["federation"]["aggregator"]["class_path"].endswith("FedAvgM")
    assert [plugin["class_path"].rpartition(".")[2] for plugin in config["federation"]["plugins"]] == ["MixStyle"]


def test_settings_can_be_given_on_the_command_line() -> None:
    assert fit("--federation.aggregator", "FedAvgM", "--federation.aggregator.momentum", "0.5") == 0
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert saved["federation"]["aggregator"]["init_args"]["momentum"] == 0.5
    assert fit("--federation.plugins+=MixStyle", "--federation.plugins.p", "0.1") == 0
    saved = yaml.safe_load(Path("run-2/config.yaml").read_text())
    assert saved["federation"]["plugins"][0]["init_args"]["p"] == 0.1


@pytest.mark.parametrize("arm", ["local", "pooled"])
def test_reference_arms_are_configs(arm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("-c", str(ROOT / "configs" / "algorithms" / f"{arm}.yaml")) == 0
    assert main(["test", "--run", "run"]) == 0
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    models = [row["model"] for row in rows if row.get("split") == "held-out"]
    assert models == (["site1", "site2", "site3", "site4", "ensemble"] if arm == "local" else ["global"])
    assert {row["site"] for row in rows if row["kind"] == "val"} >= {"site1", "site2", "site3", "site4"}


@pytest.mark.parametrize("policy", ["average", "local", "recalibrate"])
def test_batch_norm_works_under_every_buffer_policy(policy: str) -> None:
    assert fit("--model.norm", "batch", "--federation.buffers", policy) == 0
    assert main(["test", "--run", "run"]) == 0


def last_validation(run: str) -> dict[str, float]:
    rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    best = next(row["round"] for row in reversed(rows) if row["kind"] == "round" and row.get("selected"))
    return {row["site"]: row["dice"] for row in rows if row["kind"] == "val" and row["round"] == best}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model.norm", "batch"],
        ["--model.norm", "batch", "--federation.buffers", "local"],
        ["--model.norm", "batch", "--federation.buffers", "recalibrate"],
        ["-c", str(ROOT / "configs" / "algorithms" / "local.yaml")],
    ],
)
def test_validate_finds_the_scores_that_fit_selected_by(arguments: list[str]) -> None:
    assert fit("--federation.rounds", "3", "--federation.local_steps", "4", *arguments) == 0
    expected = last_validation("run")
    assert main(["validate", "--run", "run"]) == 0
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    scored = {row["site"]: row["dice"] for row in rows if row.get("split") == "val"}
    assert len(expected) == 4
    assert scored == pytest.approx(expected, abs=1e-6)
    assert all("hd95" in row for row in rows if row.get("split") == "val")


def test_predict_with_sites_that_have_models_of_their_own_asks_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    assert fit("-c", str(ROOT / "configs" / "algorithms" / "local.yaml")) == 0
    predict = ["predict", "--run", "run", "--input", "in", "--output", "out", "--probabilities"]
    capsys.readouterr()
    assert main(predict) == 2
    assert "site must be one of site1, site2, site3, site4, got nothing." in capsys.readouterr().err
    assert main([*predict, "--site", "site2"]) == 0
    assert (tmp_path / "out" / "probabilities" / "a.npy").is_file()


def test_last_finds_the_run_of_this_config_among_others() -> None:
    assert fit() == 0
    assert fit("--federation.aggregator", "FedAvgM") == 0
    before = Path("run-2/metrics.jsonl").read_text()
    assert fit("--federation.rounds", "3", "--ckpt_path", "last") == 0
    assert Path("run-2/metrics.jsonl").read_text() == before
    assert not Path("run-3").exists()
    assert '"round": 3' in Path("run/metrics.jsonl").read_text()


def test_pretrained_weights_of_a_local_file_start_the_encoder(trained: Path, tmp_path: Path) -> None:
    task = SegmentationTask.load_from_checkpoint(trained / "global.ckpt", map_location="cpu")
    torch.save(task.network.get_submodule("encoder").state_dict(), tmp_path / "encoder.pt")
    assert fit("--model.encoder_weights", str(tmp_path / "encoder.pt")) == 0


def test_plugins_lists_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    listing = capsys.readouterr().out
    assert "FedAvgM" in listing
    assert main(["plugins", "FedProx"]) == 0
    assert "1812.06127" in capsys.readouterr().out


def test_output_of_a_pipe_is_plain_lines(trained: Path) -> None:
    """No control codes and no more than 100 columns, so that a log file stays readable."""
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "fedlight", "test", "--run", str(trained)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert done.stderr == ""


ENDED = """
import os
from fedlight.plugins import ClientPlugin

class Ended(ClientPlugin):
    \"\"\"Sends the process a signal in the second round.\"\"\"

    def on_round_start(self, site, module, broadcast):
        self.round = broadcast.context.round

    def on_train_batch_start(self, *arguments):
        if self.round == 2:
            os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "asked to end (SIGTERM)")],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_ends_training_with_a_sentence_and_keeps_what_was_done(
    number: signal.Signals, code: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    (tmp_path / "ended.py").write_text(ENDED.format(number=int(number)))
    with own_registry():
        assert fit("--load", "ended.py", "--federation.plugins+=Ended") == code
    said = capsys.readouterr()
    assert said.err == f"fedlight: {sentence}; what was done is kept: go on with --ckpt_path last\n"
    assert "interrupted; run folder: run" in said.out
    saved = RunFolder(Path("run")).load()
    assert saved is not None
    assert saved["server"]["round"] == 1
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_folder_in_which_another_process_is_about_to_train_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two fits started at once both find the name free; the second must not write its config over the first's."""
    with RunFolder(Path("run")).lock():
        assert fit() == 2
        assert capsys.readouterr().err == (
            "fedlight: run_folder must be free, got run, which another process took at the same moment. "
            "Start again, or name another.\n"
        )
        assert not Path("run/config.yaml").exists()
    assert fit() == 0
    with RunFolder(Path("run")).lock():
        assert fit("--ckpt_path", "last") == 2
        assert "run is in use by another process. Wait for it or name another." in capsys.readouterr().err


# --- mistakes --------------------------------------------------------------------------------------------------------


def folder_root(path: Path, size: tuple[int, int] = (24, 24)) -> Path:
    """Three sites of six images with a square each."""
    draw = np.random.default_rng(0)
    for site in ("a", "b", "c"):
        for kind in ("images", "masks"):
            (path / site / kind).mkdir(parents=True)
        for case in range(6):
            mask = np.zeros(size, np.uint8)
            mask[4:12, 4:12] = 255
            image = draw.integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(image).save(path / site / "images" / f"{case}.png")
            Image.fromarray(mask).save(path / site / "masks" / f"{case}.png")
    return path


MISTAKES: list[tuple[list[str], str]] = [
    (
        ["--federation.aggregator", "FedAvgN"],
        "federation.aggregator must name a known class, got FedAvgN. Did you mean",
    ),
    (["--federation.plugins+=MixStil"], "federation.plugins must name a known class, got MixStil. Did you mean MixSty"),
    (["--federation.aggregator.momentum", ".5"], "momentum is not an argument of the class that it was given to. Did"),
    (["--federation.plugins+=MixStyle", "--federation.plugins.alfa", "1"], "alfa is not an argument of the class"),
    (["--federation.rouns", "3"], "federation.rouns is not a setting. Did you mean federation.rounds"),
    (["--federation.round", "3"], "federation.round is not a setting. Did you mean federation.rounds"),
    (["--rounds", "3"], "rounds is not a setting. Did you mean federation.rounds"),
    (["--federation.plugins", "MixStyle"], "To add to it, write --federation.plugins+=MixStyle."),
    (["--federation.rounds", "x"], "federation.rounds must be of type int, got x."),
    (["--federation.rounds", "0"], "rounds must be at least 1, got 0."),
    (["--federation.patience", "0"], "patience must be at least 1, got 0."),
    (["--seed_everything", "-5"], "seed_everything must be in [0, 2**32), got -5."),
    (["--trainer.precision", "64-true"], "trainer.precision must keep float32 parameters, got 64-true."),
    (["--model.window", "100"], "model.window must not be larger than the images, 16x16, got 100x100."),
    (["--data.transforms", "[Normalize]"], "site1: a training batch cannot be used ("),
    (["--federation.cohort", "3"], "cohort must be in (0, 1], got 3. To run 3 of 4 sites, use 0.75."),
    (["--federation.min_sites", "9"], "min_sites must be in [1, 4], the sites of a round, got 9."),
    (["--data.held_out", "site9"], "there is no site site9."),
    (
        ["--data.held_ou", "site1"],
        "held_ou is not an argument of the class that it was given to. Did you mean held_out",
    ),
    (["--data.cases", "2"], "2 usable cases, and training, validation and test need one patient each."),
    (["--trainer.max_epochs", "3"], "trainer.max_epochs is not a client's to decide: set federation.local_epochs."),
    (["--trainer.precision", "17"], "trainer.precision must be one of"),
    (["--trainer.accelerator", "gpuu"], "trainer: You selected an invalid accelerator name"),
    (["--model.encoder", "resnet17"], "encoder must be one that segmentation_models_pytorch knows, got resnet17."),
    (["--model.architecture", "Unett"], "architecture must be one of"),
    (["--model.encoder_weights", "none.pt"], "encoder_weights must be a file that exists, got none.pt."),
    (["--model.optimizer", "Adan"], "optimizer must name a known class, got Adan. Did you mean Adam"),
    (
        ["--model.optimizer", "torch.optim.Adan"],
        "model.optimizer must name a known class, got torch.optim.Adan.",
    ),
    (
        ["--model.scheduler", "torch.optim.lr_scheduler.StepLRR"],
        "model.scheduler must name a known class, got torch.",
    ),
    (
        ["--data", "fedlight.data.FolderSitse"],
        "data must name a known class, got fedlight.data.FolderSitse.",
    ),
    (["--data", "FolderSites", "--data.sites", "a"], "data.sites must be a list, got a. Write [a]."),
    (["--data.image_size", "big"], "data.image_size must be of type int, got big. Write it as int."),
    (["--model.optimizer.lrr", "1"], "lrr is not an argument of the class that it was given to. Did you mean lr"),
    (["--model.optimizer.lr", "-1"], "model: Invalid learning rate: -1.0"),
    (
        ["--model.classes", "[a, b, c, d]"],
        "model.classes must be those of the data, background, disc, cup, got a, b, c",
    ),
    (["--federation.plugins+=AmplitudeMix", "--federation.plugins.window", ".01"], "window must reach the first frequ"),
    (["--federation.plugins+=MixStyle", "--federation.plugins.stages", "[x]"], "stages must be among input, encoder1"),
    (["--federation.plugins+=MixStyle", "--federation.plugins.p", "2"], "p must be a probability in [0, 1], got 2"),
    (["--ckpt_path", "nowhere"], 'ckpt_path must be "last" or the folder of a run, got nowhere'),
    (
        ["--federation.executor.workers", "2"],
        "federation.executor must name a class that takes workers, got workers 2 and no class. "
        "Write --federation.executor MultiProcess before it.",
    ),
    (
        ["--federation.executor", "Flower"],
        "federation.executor must have sites for Flower, got nothing. fedlight deploy init writes",
    ),
    (["--federation.schedule", "Replay"], "federation.schedule must have run for Replay, got nothing. Add --fed"),
    (["--federation.schedule", "Bufered"], "schedule must name a known class, got Bufered. Did you mean Buffered?"),
    (["--federation.schedule.buffer", "2"], "got buffer 2 and no class. Write --federation.schedule Buffered before"),
    (["--federation.cohort", "nan"], "federation.cohort must be a number, got nan. Write it in digits."),
    (
        ["--federation.executor", "MultiProcess", "--federation.executor.deadline", "nan"],
        "federation.executor.deadline must be a number, got nan. Write it in digits.",
    ),
    (["--load", "none.py"], "none.py. Check the path"),
    (["-c", "none.yaml"], "config must be a file that can be read, got none.yaml"),
]


@pytest.mark.parametrize(
    ("arguments", "sentence"), MISTAKES, ids=lambda value: "" if isinstance(value, str) else value[-1]
)
def test_a_mistake_is_answered_in_one_sentence_before_any_training(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(*arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert all(line.startswith("fedlight: ") for line in said.splitlines())
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fot"], "fot is not a command. Did you mean fit?"),
        (["fit"], "data must be given, got nothing."),
        (["test"], "test needs a trained run, got nothing. Name its folder: fedlight test --run RUN."),
        (["test", "--run", "nowhere"], "nowhere is not a run folder"),
        (["data", "check"], "data check takes a root or a config (-c), not both."),
        (["data", "check", "x", "--output", "no/sheet.png"], "--output must lie in a folder that exists"),
        (["predict", "--run"], "--run must name the folder of a run, got nothing."),
        (["plugins", "FedAvgX"], "Did you mean FedAvg or FedAvgM?"),
        (["data", "chek", "x"], "invalid choice: 'chek'"),
    ],
)
def test_a_mistaken_command_is_answered_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "{class_path: FolderSitse, init_args: {root: x}}",
            "data must name a known class, got FolderSitse.",
        ),
        ("{class_path: fedlight.data.FolderSitse}", "data must name a known class, got fedlight.data.FolderSitse."),
        ("{class_path: FolderSites, init_args: {root: x, sites: a}}", "data.sites must be a list, got a. Write [a]."),
        ("{class_path: FolderSites, init_args: {root: x, imagesize: 3}}", "imagesize is not an argument of the class"),
    ],
    ids=["class", "path", "list", "argument"],
)
def test_mistakes_in_yaml_name_the_setting_also_for_the_check_of_data(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.yaml").write_text(f"data: {text}\n")
    for command in (["fit"], ["data", "check"]):
        assert main([*command, "-c", str(tmp_path / "data.yaml")]) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("federation: {roundz: 3}", "federation.roundz is not a setting. Did you mean federation.rounds"),
        ("modle: {class_path: SegmentationTask}", "modle is not a setting. Did you mean model"),
        ("federation: {secure_agregation: {}}", "Did you mean federation.secure_aggregation"),
        ("federaton: {}", "federaton is not a setting. Did you mean federation"),
    ],
    ids=["setting", "group", "empty setting", "empty group"],
)
def test_a_typo_in_yaml_is_answered_with_what_was_meant(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "typo.yaml").write_text(f"{text}\n")
    assert fit("-c", "typo.yaml") == 2
    assert sentence in capsys.readouterr().err


def test_broken_yaml_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("federation:\n  rounds: 2\n   x: 1\n")
    assert fit("-c", "bad.yaml") == 2
    assert "bad.yaml must be valid YAML, got an error at line 3" in capsys.readouterr().err


def test_fit_refuses_a_broken_root_with_the_sentences_of_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_root(tmp_path / "root")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(root / "a" / "masks" / "0.png")
    (root / "b" / "images" / "1.png").write_bytes(b"")
    assert main(["data", "check", str(root)]) == 2
    checked = " ".join(capsys.readouterr().out.split())
    data: list[Any] = ["--data", "FolderSites", "--data.root", str(root), "--data.patch_size", "16"]
    assert main(["fit", *data, *SMALL[6:], "--federation.run_folder", "run"]) == 2
    refused = [line.removeprefix("fedlight: ") for line in capsys.readouterr().err.splitlines()]
    assert len(refused) >= 2
    assert all(" ".join(sentence.split()) in checked for sentence in refused)
    assert not Path("run").exists()


def test_data_check_draws_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_root(tmp_path / "root")
    assert main(["data", "check", str(root), "--output", "sheet.png", "--held_out", "c"]) == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 100
    assert "c (held out)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [["--data.held_out", "site1"], ["--data.seed", "7"], ["--data.image_size", "32"]])
def test_a_run_is_not_scored_on_other_data_than_it_was_trained_with(
    trained: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "metrics.jsonl").read_text()
    assert main(["test", "--run", str(trained), *arguments]) == 2
    assert "a run is scored on the data that it was trained with" in capsys.readouterr().err
    assert (trained / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_what_a_site_kept_is_never_silently_replaced(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("-c", str(ROOT / "configs" / "algorithms" / "local.yaml")) == 0
    for path in Path("run/sites/site2").iterdir():
        path.write_bytes(b"junk") if damage == "damaged" else path.unlink()
    capsys.readouterr()
    more = [
        "-c",
        str(ROOT / "configs" / "algorithms" / "local.yaml"),
        "--federation.rounds",
        "3",
        "--ckpt_path",
        "last",
    ]
    assert fit(*more) == 2
    assert main(["test", "--run", "run"]) == 2
    said = capsys.readouterr().err
    assert said.count("site2") >= 2
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("config.yaml", b"a: [", 1), ("metrics.jsonl", b"no json\n{}\n", 1), ("global.ckpt", b"hello", 2)],
)
def test_a_damaged_file_of_a_run_is_named(
    trained: Path, tmp_path: Path, name: str, content: bytes, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(trained, run)
    (run / name).write_bytes(content)
    assert main(["test", "--run", str(run)]) == code
    said = capsys.readouterr().err
    assert name in said
    assert "damaged" in said


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FEDLIGHT_PLUGINS": ""}
    command = [sys.executable, "-m", "fedlight", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_keeps_the_plugin_files_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLIGHT_PLUGINS", "")
    plugin = 'from fedlight_algorithms import FedAvg\n\nclass MyMean(FedAvg):\n    """A mean of my own."""\n'
    (tmp_path / "my_mean.py").write_text(plugin)
    assert fit("--load", "my_mean.py", "--federation.aggregator", "MyMean") == 0
    (tmp_path / "my_mean.py").unlink()
    shutil.move("run", "moved")
    validation = started("validate", "--run", "moved")
    _, said = validation.communicate(timeout=120)
    assert validation.returncode == 0, said


def test_a_closed_pipe_does_not_stop_the_training() -> None:
    training = started("fit", "-c", CONFIG, *SMALL, "--federation.run_folder", "run")
    assert training.stdout is not None
    training.stdout.close()
    assert training.stderr is not None
    said = training.stderr.read()
    training.stderr.close()
    assert training.wait(120) == 0, said
    assert Path("run/rounds/00002.safetensors").is_file()


def test_a_trained_run_needs_no_pretrained_weights_any_more(trained: Path, tmp_path: Path) -> None:
    task = SegmentationTask.load_from_checkpoint(trained / "global.ckpt", map_location="cpu")
    torch.save(task.network.get_submodule("encoder").state_dict(), tmp_path / "encoder.pt")
    assert fit("--model.encoder_weights", str(tmp_path / "encoder.pt")) == 0
    (tmp_path / "encoder.pt").unlink()
    assert main(["validate", "--run", "run"]) == 0


def test_data_check_takes_the_data_of_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_root(tmp_path / "root")
    (tmp_path / "data.yaml").write_text(
        f"data: {{class_path: FolderSites, init_args: {{root: {root}, patch_size: 99}}}}"
    )
    assert main(["data", "check", "-c", "data.yaml"]) == 2
    assert "99x99" in " ".join(capsys.readouterr().out.split())


def test_a_full_disk_stops_the_run_in_one_sentence_and_keeps_what_was_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real full device: the run folder's rounds lie on /dev/full once the first round is done."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    assert fit() == 0
    Path("run/rounds/00003.safetensors.part").symlink_to("/dev/full")
    capsys.readouterr()
    assert fit("--federation.rounds", "3", "--ckpt_path", "last") == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "Traceback" not in said
    Path("run/rounds/00003.safetensors.part").unlink()
    assert fit("--federation.rounds", "3", "--ckpt_path", "last") == 0
