"""A table: for the page and for paper."""

from __future__ import annotations

import math

from fedlight.benchmark.report.notation import MINUS, THIN
from fedlight.benchmark.report.table import Column, plain, table

COLUMNS = [
    Column("Arm", "", lambda row: str(row["arm"]), "arm", numeric=False),
    Column("Dice (%)", "Of 100.", lambda row: f"{row['dice']:.1f}", "dice"),
]
MADE = table("t", "All of it.", COLUMNS, [{"arm": "a|b_c", "dice": 81.25}, {"arm": "d", "dice": math.nan}])


def test_a_table_for_paper_has_its_sentences_below() -> None:
    written = plain(MADE)
    assert written.note == "Dice (%): Of 100."
    assert "| a\\|b_c | 81.2 |" in written.markdown()
    assert r"a|b\_c & 81.2 \\" in written.latex()


def test_signs_that_no_keyboard_has_are_left_to_the_page() -> None:
    row = {"arm": f"{MINUS}1{THIN}000", "dice": 1}
    assert plain(table("t", "", COLUMNS, [row])).rows[0][0].text == "-1 000"


def test_rows_are_sorted_by_full_numbers_and_missing_ones_by_nothing() -> None:
    assert [row.order[1] for row in MADE.rows] == ["81.25", ""]


def test_a_row_knows_that_it_is_the_reference() -> None:
    kinds = table("t", "", COLUMNS, [{"arm": "a", "dice": 1}], lambda row: "reference").rows
    assert [row.kind for row in kinds] == ["reference"]
