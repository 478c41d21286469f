"""The page in a browser: no script error, nothing wider than a telephone, a table that sorts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedlight.benchmark.report.report import write_report
from tests.benchmark.report.browser import CHROMIUM, look
from tests.benchmark.report.conftest import Written, with_pictures
from tests.benchmark.results import Study

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

WIDTHS = """
found.width = view.innerWidth;
found.scroll = page.documentElement.scrollWidth;
found.wide = Array.from(page.querySelectorAll("body *"))
  .filter(e => !e.closest(".scroll, pre") && e.getBoundingClientRect().right > view.innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 120));
"""

SORTED = """
var table = page.getElementById("table-held_out"), dice = table.querySelectorAll("th button")[1];
function column() { return Array.from(table.tBodies[0].rows).map(row => row.cells[1].textContent); }
dice.click(); found.down = column(); found.first = dice.parentNode.getAttribute("aria-sort");
dice.click(); found.up = column(); found.second = dice.parentNode.getAttribute("aria-sort");
"""


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_a_page_with_pictures_is_no_wider_than_the_screen(width: int, tmp_path: Path) -> None:
    """Three overlays beside each other scroll in a frame of their own; the first site is unfolded."""
    study = Study(effects={"fedavg": 0.0}, sites=("drive", "hrf"), seeds=(0,), cases=3).write(tmp_path)
    with_pictures(study)
    index = study / "overlays" / "fedavg" / "drive" / "index.json"
    (case,) = json.loads(index.read_text())["cases"]
    index.write_text(json.dumps({"format": 1, "cases": [{**case, "which": w} for w in ("best", "median", "worst")]}))
    write_report([study], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    found = look(page, f"{WIDTHS} found.open = page.querySelectorAll('.patients[open] img').length;", width, tmp_path)
    assert (found["failures"], found["wide"], found["open"]) == ([], [], 3)
    assert found["scroll"] <= width


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_the_page_is_no_wider_than_the_screen(written: Written, width: int, tmp_path: Path) -> None:
    found = look(written.text("report.html"), WIDTHS, width, tmp_path)
    assert found["failures"] == []
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []


def test_the_headline_table_sorts_by_a_click(written: Written, tmp_path: Path) -> None:
    found = look(written.text("report.html"), SORTED, 1280, tmp_path)
    assert found["failures"] == []
    assert "error" not in found
    assert (found["first"], found["second"]) == ("descending", "ascending")
    assert found["down"] == sorted(found["down"], reverse=True)
    assert found["up"] == sorted(found["up"])
