"""What an installation contains."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_contains_packages_algorithms_and_the_typing_marker(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("fedlight", "algorithms", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        f"{target}/{path.relative_to(ROOT / folder)}"
        for folder, target in (("fedlight", "fedlight"), ("algorithms", "fedlight_algorithms"))
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sources <= names
    assert "fedlight/py.typed" in names
    assert {f"fedlight/benchmark/report/templates/report.{kind}" for kind in ("html", "md", "css", "js")} <= names
    kit = ROOT / "fedlight" / "deploy" / "templates"
    assert {f"fedlight/deploy/templates/{path.relative_to(kit)}" for path in kit.rglob("*.*")} <= names
    assert {f"fedlight_algorithms/configs/{path.name}" for path in (ROOT / "configs" / "algorithms").iterdir()} <= names
    assert not any(name.startswith(("tests/", "algorithms/", "docs/", "configs/")) for name in names)


def test_the_algorithms_are_found_through_the_door_that_everyone_uses() -> None:
    found = {point.name: point.value for point in entry_points(group="fedlight.plugins")}
    assert found["algorithms"] == "fedlight_algorithms"


def test_every_dependency_has_its_reason_on_the_line_above() -> None:
    lines = [line.strip() for line in (ROOT / "pyproject.toml").read_text().splitlines()]
    begin, end = lines.index("dependencies = ["), lines.index("[project.optional-dependencies]")
    bounds = [index for index in range(begin, end) if lines[index].startswith('"') and ">" in lines[index]]
    assert bounds
    for index in bounds:
        above = next(line for line in reversed(lines[:index]) if not line.startswith('"'))
        assert above.startswith("#"), lines[index]


def test_constraints_pin_versions_and_name_no_index() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 20
    assert all("==" in pin and "//" not in pin and not pin.startswith("-") for pin in pins)
