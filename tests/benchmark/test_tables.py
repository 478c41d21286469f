"""What is bold, what is said, and that Markdown and LaTeX say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedlight.benchmark.measures import MEASURES
from fedlight.benchmark.scores import Scores, load
from fedlight.benchmark.statistics import headline, paired, wilcoxon
from fedlight.benchmark.table import Cell, Table
from fedlight.benchmark.tables import headline_table, paired_table, tables
from tests.benchmark.results import Study, scores_of


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    study = Study(human=True, failed=[("style_align", "hrf", 1)], nested=("fedavg", "mixstyle"))
    return load(study.write(tmp_path))


def bold(table: Table, heading: str) -> list[str]:
    column = next(index for index, name in enumerate(table.headings) if name.startswith(heading))
    return [row[0].text for row in table.rows if row[column].best]


def test_only_arms_with_all_their_jobs_are_bold(scores: Scores) -> None:
    """The human is best and style_align next, but for a failed job; then comes mixstyle."""
    table = tables(scores)["headline"]
    assert [row[0].text for row in table.rows][:2] == ["style_align", "mixstyle"]
    assert bold(table, "Dice") == ["mixstyle"]
    assert bold(table, "Rank") == ["mixstyle"]


def test_a_short_distance_is_not_bold_if_more_was_missed() -> None:
    """Arm x has the shorter distance over the one structure that it found."""
    scores = scores_of({("fedavg", "a", 0): [0.5, 0.5], ("x", "a", 0): [0.9, 0.0]}, miss=lambda dice: float(dice == 0))
    scores.cases["hd95"] = [5.0, 5.0, 1.0, 90.0]
    table = headline_table(headline(scores), "px")
    assert bold(table, "HD95 px") == ["fedavg"]
    assert bold(table, "Missed") == ["fedavg"]


def test_nothing_is_bold_where_all_are_equal() -> None:
    table = headline_table(headline(scores_of({(arm, "a", 0): [0.5] for arm in ("fedavg", "x")})), "px")
    assert bold(table, "Dice") == []


def test_every_column_of_a_table_is_explained_under_it(scores: Scores) -> None:
    note = tables(scores)["headline"].note
    for name in ("dice", "hd95", "assd", "miss", "ece", "brier", "rank", "val_dice", "worst_decile"):
        assert MEASURES[name].meaning in note
    assert "MONAI" in note
    assert "bootstrap" in note


def test_undefined_is_written_as_such(scores: Scores) -> None:
    made = tables(scores)
    text = "".join(table.markdown() + table.latex() for table in made.values())
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "n/a" in made["headline"].markdown()


def test_failures_and_missing_jobs_are_in_the_table(scores: Scores) -> None:
    found = {row[0].text: row[-1].text for row in tables(scores)["headline"].rows}
    assert found["style_align"] == "11/12 (1 failed)"
    assert found["fedavg"] == "12/12"
    assert found["human"] == "4/4"


def test_significant_sites_are_bold_after_adjustment() -> None:
    """Twelve cases of one sign: p = 2 / 4096; adjusted for the one test it is that."""
    dice = {("fedavg", "a", 0): [0.5] * 12, ("x", "a", 0): [0.6 + 0.01 * index for index in range(12)]}
    scores = scores_of(dice)
    table = paired_table(paired(scores), wilcoxon(scores))
    assert table.rows[0][-1] == Cell("+0.155 (<0.001)", best=True)
    assert "all 1 tests" in table.note


def test_markdown_and_latex_have_the_same_numbers(scores: Scores) -> None:
    for table in tables(scores).values():
        both = (table.markdown(), table.latex().replace("$-$", "-").replace("$+$", "+"))
        numbers = [sorted(re.findall(r"-?\d+\.\d+", text.replace("0.25\\linewidth", ""))) for text in both]
        assert numbers[0] == numbers[1]


def test_every_row_of_latex_has_as_many_cells_as_the_head(scores: Scores) -> None:
    for table in tables(scores).values():
        lines = [line for line in table.latex().splitlines() if line.endswith(r"\\")]
        assert {line.count(" & ") for line in lines} == {len(table.headings) - 1}


def test_all_tables_are_there_with_classes_if_there_are_several(scores: Scores, tmp_path: Path) -> None:
    names = ["headline", "in_federation", "sites", "paired", "selection", "claims"]
    assert list(tables(scores)) == names
    two = Study(effects={"fedavg": 0.0}, sites=("a", "b"), classes=("disc", "cup")).write(tmp_path / "two")
    assert list(tables(load(two))) == [*names, "classes"]
