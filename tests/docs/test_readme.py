"""Every command, snippet and file in README.md and docs/ is run as a reader would run it, on tiny settings.

A reader goes through a page from top to bottom in an empty folder. Blocks that are files are written, Python is
executed, and every command must be one that ``Reader`` knows how to run: no command can be documented untested.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fedlight.__main__ import main
from fedlight.deploy import light
from tests.benchmark.results import Study
from tests.contracts.harness import own_registry
from tests.data.datasets.layouts import LAYOUTS
from tests.docs.pages import PAGES, ROOT, SHELL, blocks, commands, documented, table

README = PAGES["README.md"].read_text()

SMALL = shlex.split(
    "--federation.rounds 2 --federation.local_steps 1 --data.batch_size 2 --model.encoder plain-8 "
    "--trainer.accelerator cpu"
)
SMALL_DATA = {
    "configs/quickstart.yaml": shlex.split("--data.image_size 16 --data.cases 6"),
    "configs/retina.yaml": shlex.split("--data.patch_size 16"),
    "configs/datasets/fundus.yaml": shlex.split("--data.image_size 16"),
    "my_data.yaml": shlex.split("--data.image_size 16"),
}
"""What makes a documented training tiny, by the first config that it names."""

FEW_JOBS = shlex.split("--references fedavg --algorithms mixstyle --held_out site5 --seeds 1 --trials 2")
"""What makes a documented benchmark two jobs."""

TRAINING_AND_SCORES = ("fit", "validate", "test", "predict")


class Reader:
    """Follows a page in an empty folder, with the data that the pages speak of.

    Args:
        folder: The working directory.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "configs").symlink_to(ROOT / "configs")
        for site in ("berlin", "leeds", "osaka"):
            write_site(folder / "my_data" / site, ["001", "002", "003"])
        write_site(folder / "retina" / "chase", ["Image_01L", "Image_01R", "Image_02L", "Image_03L"])
        for site in ("drive", "hrf", "les_av"):
            write_site(folder / "retina" / site, ["01", "02", "03"])
        write_images(folder / "my_images", ["a", "b"])
        self.folder = folder

    def read(self, page: str) -> None:
        """Does everything that a page says, in order."""
        for block in blocks(page):
            if block.file is not None:
                (self.folder / block.file).write_text(block.text)
            if block.language in SHELL:
                for command in commands(block):
                    self.run(command)
            elif block.language == "python" and block.file is None:
                exec(compile(block.text, "snippet", "exec"), {"__name__": "__main__"})
            elif block.language == "yaml":
                assert isinstance(yaml.safe_load(block.text), dict)

    def run(self, command: str) -> None:
        """Runs a command of a page.

        Raises:
            AssertionError: If it fails, or nobody said here how to run it.
        """
        known = {"fedlight": self._fedlight, "make": self._make, "python": self._script}
        program, *arguments = shlex.split(os.path.expandvars(command))
        assert program in known, f"a page says `{command}`, and no test knows how to run it"
        known[program](arguments)

    def _fedlight(self, arguments: Sequence[str]) -> None:
        small = list(arguments)
        if arguments[0] == "deploy" and arguments[1] != "init":  # what stays is run for real in tests/deploy
            assert (self.folder / arguments[2] / ("site.yaml" if "sites" in arguments[2] else "server.yaml")).is_file()
            assert arguments[1] in light.COMMANDS
            return
        if arguments[0] == "benchmark":
            small += [*SMALL[:-2], *SMALL_DATA["configs/quickstart.yaml"], *FEW_JOBS]
        if arguments[0] == "fit":
            config = arguments[list(arguments).index("-c") + 1]
            assert config in SMALL_DATA, f"no test knows how to make {config} small"
            small += SMALL + SMALL_DATA[config]
        if (
            "configs/algorithms/amplitude_mix.yaml" in arguments
        ):  # a site that saw fewer than five images shares nothing
            small += ["--data.cases", "7", "--federation.local_steps", "3"]
        if arguments[:2] == ["data", "prepare"]:
            LAYOUTS[arguments[2]](self.folder / arguments[arguments.index("--source") + 1])
            small += ["--allow_incomplete"]
        if arguments[0] == "audit":
            small += ["--steps", "2", "--size", "16"]
        if arguments[0] == "report" and not Path(arguments[1]).exists():
            Study(effects={"fedavg": 0.0, "mixstyle": 0.02}, seeds=(0,), cases=3).write(self.folder / arguments[1])
        if "--federation.trackers+=WandbTracker" in arguments:  # W&B stays in its process
            assert call([sys.executable, "-m", "fedlight", *small], self.folder).returncode == 0
            assert list(self.folder.glob("runs/*/wandb/offline-run-*"))
        else:
            assert exit_code(small) == 0, shlex.join(["fedlight", *small])

    def _make(self, arguments: Sequence[str]) -> None:
        assert dry_run(arguments)

    def _script(self, arguments: Sequence[str]) -> None:
        """Measurements take minutes: that they are there is all that is checked here."""
        (script,) = arguments
        compile((ROOT / script).read_text(), script, "exec")


def exit_code(arguments: Sequence[str]) -> int:
    """Runs the command line in this process, which saves seconds of imports."""
    try:
        return main(list(arguments))
    except SystemExit as done:  # --print_config
        return int(done.code or 0)


def call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def dry_run(targets: Sequence[str]) -> list[str]:
    """Returns the commands that make would run, all targets being new."""
    done = call(["make", "--dry-run", "--always-make", *targets], ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def write_site(site: Path, names: Sequence[str]) -> None:
    """Writes noise images with a square as their mask."""
    write_images(site / "images", names)
    (site / "masks").mkdir()
    for name in names:
        mask = np.zeros((24, 20), dtype=np.uint8)
        mask[6:18, 5:15] = 255
        Image.fromarray(mask).save(site / "masks" / f"{name}.png")


def write_images(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        random = np.random.default_rng(list(f"{folder.parent.name}/{name}".encode()))
        Image.fromarray(random.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(folder / f"{name}.png")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.setenv("RETINA_ROOT", str(tmp_path / "retina"))
    return Reader(tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_everything_on_a_page_runs(reader: Reader, name: str) -> None:
    with own_registry():
        reader.read(PAGES[name].read_text())


def test_a_command_that_no_test_knows_is_noticed(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="no test knows how to run it"):
        reader.run("conda install fedlight")
    with pytest.raises(AssertionError, match="no test knows how to make"):
        reader.run("fedlight fit -c configs/nowhere.yaml")
    with pytest.raises(AssertionError):
        reader.run("fedlight fit -c configs/quickstart.yaml --federation.no_setting 1")


def test_make_quickstart_runs_the_commands_that_the_readme_shows() -> None:
    recipe = [line.split("bin/", 1)[1] for line in dry_run(["quickstart"]) if "bin/fedlight" in line]
    shown = documented(README)
    start = shown.index("make quickstart") + 1
    assert recipe == shown[start : start + len(recipe)] != []


def test_make_test_runs_what_the_checks_run() -> None:
    assert any(line.endswith(".ci/checks") for line in dry_run(["test"]))


def test_a_run_folder_holds_what_the_readme_lists(reader: Reader) -> None:
    rows = table(README, "In the run folder")
    listed = {name.strip("`/ ") for row in rows for name in row[0].split(",")}
    for command in (
        "fit -c configs/quickstart.yaml --profile",
        "test --run runs/quickstart",
        "validate --run runs/quickstart",
    ):
        reader.run(f"fedlight {command}")
    assert {path.name for path in Path("runs/quickstart").iterdir()} == listed - {
        "errors.log",
        "workers.log",
    }  # no site failed


def test_predict_writes_what_the_readme_says(reader: Reader) -> None:
    reader.run("fedlight fit -c configs/quickstart.yaml")
    (command,) = (command for command in documented(README) if command.startswith("fedlight predict"))
    reader.run(command)
    kinds = {path.name for path in Path("predictions").iterdir()}
    assert kinds == {"masks", "overlays", "probabilities", "predictions.csv"}
    with Image.open("predictions/masks/a.png") as mask:
        assert mask.size == (20, 24)
