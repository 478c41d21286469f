"""The page in a browser: no script error, nothing wider than a telephone, a table that sorts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark.report.browser import CHROMIUM, look
from tests.benchmark.report.conftest import Written

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
