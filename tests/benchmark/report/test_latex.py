"""The tables in a paper: they compile with the packages that the page on reports names, and stay on the paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedlight.benchmark import table as paper
from tests.benchmark.report.conftest import Written

ROOT = Path(__file__).resolve().parents[3]
LATEX = shutil.which("pdflatex")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(LATEX is None, reason="pdflatex is not installed")]


def preamble() -> str:
    """Returns the line of the documentation that says what a paper must load."""
    (line,) = re.findall(r"`(\\usepackage\{.*?\})`", (ROOT / "docs" / "report.md").read_text())
    return str(line)


def compiled(body: str, folder: Path) -> str:
    """Compiles a document of these tables and returns the log."""
    source = f"\\documentclass{{article}}\n{preamble()}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "paper.tex").write_text(source, encoding="utf-8")
    command = [str(LATEX), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def test_every_table_compiles_and_is_no_wider_than_the_text(written: Written, tmp_path: Path) -> None:
    files = sorted((written.output / "tables").glob("*.tex"))
    assert len(files) > 8
    for file in files:
        shutil.copy(file, tmp_path)
    log = compiled("\n\\clearpage\n".join(f"\\input{{{file.name}}}" for file in files), tmp_path)
    assert "Overfull \\hbox" not in log
    assert "Missing character" not in log


def test_signs_of_all_kinds_compile(tmp_path: Path) -> None:
    signs = "† “é” … → ≤ ≥ ↑ ↓ ± \N{MULTIPLICATION SIGN} \N{MINUS SIGN}1 1\N{THIN SPACE}000"
    text = rf"a_b & 50 % #1 ${{x}}$ ~ ^ \ < > -1 {signs}"
    row = (paper.Cell(text), paper.Cell(text, best=True))
    compiled(paper.Table(text, (text, text), (row, row), text).latex(), tmp_path)
