"""A table in its three forms."""

from __future__ import annotations

import math

from fedlight.benchmark.report.table import Column, latex, markdown, table

COLUMNS = [
    Column("Arm", "", lambda row: str(row["arm"]), "arm", numeric=False),
    Column("Dice (%)", "Of 100.", lambda row: f"{row['dice']:.1f}", "dice"),
]
MADE = table("t", "All of it.", COLUMNS, [{"arm": "a|b_c", "dice": 81.25}, {"arm": "d", "dice": math.nan}])


def test_markdown_keeps_a_bar_within_its_cell() -> None:
    assert markdown(MADE) == "| Arm | Dice (%) |\n|---|---:|\n| a\\|b_c | 81.2 |\n| d | nan |\n"


def test_latex_explains_columns_and_escapes_text() -> None:
    lines = latex(MADE).splitlines()
    assert "% Dice (%): Of 100." in lines
    assert r"\begin{tabular}{lr}" in lines
    assert r"Arm & Dice (\%) \\" in lines
    assert r"a|b\_c & 81.2 \\" in lines


def test_rows_are_sorted_by_full_numbers_and_missing_ones_by_nothing() -> None:
    assert [row.order[1] for row in MADE.rows] == ["81.25", ""]


def test_a_row_knows_that_it_is_the_reference() -> None:
    kinds = table("t", "", COLUMNS, [{"arm": "a", "dice": 1}], lambda row: "reference").rows
    assert [row.kind for row in kinds] == ["reference"]
