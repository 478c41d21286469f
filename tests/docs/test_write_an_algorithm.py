"""The page on writing an algorithm is run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.discovery import discover, find
from tests.contracts.checks import checks_of
from tests.contracts.harness import aggregate, context_of, own_registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "write-an-algorithm.md").read_text()
SMALL = (
    "--data.init_args.image_size 16 --data.init_args.cases 12 --federation.rounds 2 --federation.local_steps 1 "
    "--data.init_args.batch_size 2 --federation.run_folder runs/page"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def loose_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "my_algorithms.py"
    path.write_text(blocks("python")[0])
    with own_registry():
        yield path


def test_the_file_has_at_most_forty_lines() -> None:
    assert len(blocks("python")) == 1
    assert len(blocks("python")[0].splitlines()) <= 40


@pytest.mark.parametrize("name", ["MyMedian", "Brightness"])
def test_both_plugins_keep_the_contract(loose_file: Path, name: str) -> None:
    discover([loose_file])
    cls = find(name).cls
    for check in checks_of(cls):
        check(cls)


def test_the_median_is_the_middle_value(loose_file: Path) -> None:
    """Of 1, 9, 2 it is 2; of 1, 9 it is the mean of both, 5."""
    discover([loose_file])
    for values, expected in (({"A": 1.0, "B": 9.0, "C": 2.0}, 2.0), ({"A": 1.0, "B": 9.0}, 5.0)):
        median = find("MyMedian").cls()
        assert isinstance(median, Aggregator)
        updates = {site: {"w": torch.tensor(value)} for site, value in values.items()}
        assert aggregate(median, context_of(tuple(values)), {"w": torch.tensor(0.0)}, updates)["w"] == expected


def test_the_yaml_of_the_page_names_both(loose_file: Path, tmp_path: Path) -> None:
    """The file is loaded first, as the command line does; then the bare names work."""
    setting = yaml.safe_load(blocks("yaml")[0])
    discover([tmp_path / file for file in setting.pop("load")])
    (tmp_path / "my_method.yaml").write_text(yaml.safe_dump(setting))
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--federation.aggregator", type=Aggregator)
    parser.add_argument("--federation.plugins", type=list[ClientPlugin])
    built = parser.instantiate(parser.parse_args(["--config", str(tmp_path / "my_method.yaml")])).federation
    assert type(built.aggregator).__name__ == "MyMedian"
    assert [(type(plugin).__name__, plugin.spread) for plugin in built.plugins] == [("Brightness", 0.2)]


def test_the_command_of_the_page_runs(loose_file: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    command = [sys.executable, "-m", *shlex.split(blocks("shell")[0]), *shlex.split(SMALL)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "runs" / "page" / "global.ckpt").is_file()
