"""One report of invented results, written once and looked at by many tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from fedlight.benchmark import scores
from fedlight.benchmark.report.findings import Findings, find
from fedlight.benchmark.report.report import write_report
from tests.benchmark.results import Study

NAMES = {"fedavg": 0.0, "mixstyle": 0.02, "style_align": 0.03, "pooled": 0.01, "local": -0.1, "a<b>_&%": 0.0}
"""Effects of the arms; the last has a name that HTML, Markdown and LaTeX must all escape."""


@dataclass(frozen=True)
class Written:
    """A report on disk."""

    results: Path
    output: Path
    said: list[str]

    def text(self, name: str) -> str:
        return (self.output / name).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of six arms at three sites with two seeds; a job failed, one is missing, and there is an annotator."""
    invented = Study(
        effects=NAMES,
        sites=("chase", "drive", "hrf"),
        seeds=(0, 1),
        cases=6,
        failed=[("mixstyle", "hrf", 1)],
        missing=[("pooled", "chase", 0)],
        nested=["fedavg", "mixstyle"],
        human=True,
    )
    return invented.write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def findings(study: Path) -> Findings:
    return find(scores.load(study), "best", "fedavg")


@pytest.fixture(scope="session")
def written(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    output = tmp_path_factory.mktemp("report")
    return Written(study, output, write_report([study], output))


def with_pictures(output: Path) -> None:
    """Puts an overlay and a sheet of styles beside results."""
    overlays, styles = output / "overlays" / "fedavg" / "drive", output / "styles"
    overlays.mkdir(parents=True)
    styles.mkdir()
    Image.new("RGB", (900, 600), "red").save(overlays / "a.png")
    Image.new("RGB", (2000, 500), "blue").save(styles / "styles.png")
    case = {"file": "a.png", "which": "worst", "case": "021", "seed": 0, "checkpoint": "best", "dice": 0.4123}
    (overlays / "index.json").write_text(json.dumps({"format": 1, "cases": [case]}))
