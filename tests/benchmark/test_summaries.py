"""Means of a few numbers by hand, and laws that hold whatever the numbers are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedlight.benchmark.scores import load
from fedlight.benchmark.statistics import headline, in_federation, paired, per_class, per_site
from tests.benchmark.results import Study, scores_of

BY_HAND = {
    ("fedavg", "a", 0): [0.2, 0.4],
    ("fedavg", "a", 1): [0.4, 0.6],
    ("fedavg", "b", 0): [0.8, 0.8, 0.8, 0.4],
    ("fedavg", "b", 1): [0.8, 0.8, 0.8, 0.8],
    ("x", "a", 0): [0.3, 0.5],
    ("x", "a", 1): [0.4, 0.6],
    ("x", "b", 0): [0.6, 0.6, 0.6, 0.6],
    ("x", "b", 1): [0.6, 0.6, 0.6, 0.6],
}


def rows(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in frame.to_dict("records")}


def test_headline_by_hand() -> None:
    """Jobs of fedavg: a 0.3 and 0.5, b 0.7 and 0.8; sites 0.4 and 0.75; mean 0.575.

    Seeds: (0.3 + 0.7) / 2 = 0.5 and (0.5 + 0.8) / 2 = 0.65, whose standard deviation is 0.15 / sqrt(2).
    Lowest tenth, one case each: a 0.2 and 0.4, b 0.4 and 0.8; sites 0.3 and 0.6; mean 0.45.
    x: sites 0.45 and 0.6; mean 0.525. Differences: a 0.1 and 0, b -0.1 and -0.2; sites 0.05 and -0.15; mean -0.05.
    Ranks of x: a/0 first, a/1 shared (1.5), b second twice: 6.5 / 4.
    """
    found = rows(headline(scores_of(BY_HAND)))
    fedavg, x = found["fedavg"], found["x"]
    assert list(found) == ["fedavg", "x"]
    assert fedavg["dice"] == pytest.approx(0.575)
    assert fedavg["dice_sd"] == pytest.approx(0.15 / math.sqrt(2))
    assert (fedavg["worst_site"], fedavg["worst_site_dice"]) == ("a", pytest.approx(0.4))
    assert fedavg["worst_decile"] == pytest.approx(0.45)
    assert x["dice"] == pytest.approx(0.525)
    assert x["difference"] == pytest.approx(-0.05)
    assert x["low"] <= -0.05 <= x["high"]
    assert (x["rank"], fedavg["rank"]) == pytest.approx((6.5 / 4, (2 + 1.5 + 1 + 1) / 4))
    assert (x["jobs"], x["planned"], x["failed"], x["complete"]) == (4, 4, 0, True)
    assert math.isnan(fedavg["difference"])


def test_the_lowest_tenth_of_twenty_cases_are_two() -> None:
    """Cases 0.00, 0.05 ... 0.95: the lowest two have the mean 0.025; of 21 cases the lowest three 0.05."""
    cases = [0.05 * index for index in range(20)]
    found = rows(headline(scores_of({("fedavg", "a", 0): cases, ("x", "a", 0): [*cases, 1.0]})))
    assert found["fedavg"]["worst_decile"] == pytest.approx(0.025)
    assert found["x"]["worst_decile"] == pytest.approx(0.05)


def test_a_missing_job_does_not_shift_the_weight_between_sites() -> None:
    """Without b/1: sites of fedavg are 0.4 and 0.7, so 0.55; the one seed that has both sites has no deviation."""
    dice = {job: values for job, values in BY_HAND.items() if job != ("fedavg", "b", 1)}
    fedavg = rows(headline(scores_of(dice)))["fedavg"]
    assert fedavg["dice"] == pytest.approx(0.55)
    assert math.isnan(fedavg["dice_sd"])
    assert (fedavg["jobs"], fedavg["planned"], fedavg["failed"], fedavg["complete"]) == (3, 4, 0, False)


def test_failures_are_counted_and_an_arm_that_only_failed_has_a_row() -> None:
    dice = BY_HAND | {("fedavg", "b", 1): None} | {("y", site, seed): None for site in "ab" for seed in (0, 1)}
    found = rows(headline(scores_of(dice)))
    assert (found["fedavg"]["jobs"], found["fedavg"]["failed"]) == (3, 1)
    assert (found["y"]["jobs"], found["y"]["failed"], found["y"]["complete"]) == (0, 4, False)
    assert math.isnan(found["y"]["dice"])
    assert list(found)[-1] == "y"


def test_missed_structures_are_counted_apart_from_distances() -> None:
    """Of 4 cases one is missed; its distance, the image's diagonal, is in no mean: (1 + 2 + 3) / 3."""
    scores = scores_of({("fedavg", "a", 0): [0.0, 0.9, 0.8, 0.7]}, miss=lambda dice: float(dice == 0))
    scores.cases["hd95"] = [90.0, 1.0, 2.0, 3.0]
    (row,) = headline(scores).to_dict("records")
    assert (row["hd95"], row["miss"]) == (2.0, 0.25)
    assert math.isnan(row["assd"])  # measured nowhere


def test_with_classes_only_the_missed_ones_have_no_distance() -> None:
    """The case missed the cup: its distance is that of the disc, 2; the other case has (4 + 6) / 2; mean 3.5."""
    scores = scores_of({("fedavg", "a", 0): [0.4, 0.8]})
    scores.cases[["miss", "hd95"]] = [[0.5, 46.0], [0.0, 5.0]]
    scores.cases[["miss/disc", "miss/cup", "hd95/disc", "hd95/cup"]] = [[0.0, 1.0, 2.0, 90.0], [0.0, 0.0, 4.0, 6.0]]
    scores.cases[["assd/disc", "assd/cup"]] = 1.0
    (row,) = headline(scores).to_dict("records")
    assert row["hd95"] == pytest.approx(3.5)


def test_local_has_a_mean_and_an_oracle_that_is_not_ranked() -> None:
    """Models score 0.4 and 0.6 in seed 0, 0.7 and 0.5 in seed 1: means 0.5 and 0.6; the best 0.6 and 0.7."""
    dice: dict[tuple[str, str, int], Any] = {
        ("local", "a", 0): {"p": [0.3, 0.5], "q": [0.5, 0.7], "ensemble": [0.9, 0.9]},
        ("local", "a", 1): {"p": [0.6, 0.8], "q": [0.4, 0.6], "ensemble": [0.9, 0.9]},
        ("fedavg", "a", 0): [0.6, 0.6],
        ("fedavg", "a", 1): [0.6, 0.6],
    }
    found = rows(headline(scores_of(dice)))
    assert found["local (mean)"]["dice"] == pytest.approx(0.55)
    assert found["local (best, oracle)"]["dice"] == pytest.approx(0.65)
    assert found["local (ensemble)"]["dice"] == pytest.approx(0.9)
    assert found["local (best, oracle)"]["kind"] == "oracle"
    assert math.isnan(found["local (best, oracle)"]["rank"])
    assert list(found)[-1] == "local (best, oracle)"
    assert found["local (mean)"]["jobs"] == 2


def test_an_arm_with_private_parts_is_the_mean_of_its_models() -> None:
    dice = {("fedbn", "a", 0): {"mean": [0.5], "p": [0.9], "q": [0.1]}}
    (row,) = headline(scores_of(dice)).to_dict("records")
    assert (row["arm"], row["dice"]) == ("fedbn", 0.5)


def test_a_human_comes_last_unranked_and_is_paired_with_every_seed() -> None:
    """Cases 0.9 and 0.8 against 0.2, 0.4 and 0.4, 0.6: differences 0.7, 0.4, 0.5, 0.2; mean 0.45."""
    dice = {job: values for job, values in BY_HAND.items() if job[1] == "a"} | {("human", "a", 0): [0.9, 0.8]}
    last = headline(scores_of(dice)).iloc[-1]
    assert (last["arm"], last["kind"], last["planned"], last["complete"]) == ("human", "human", 1, True)
    assert last["difference"] == pytest.approx(0.45)
    assert math.isnan(last["rank"])


def test_paired_by_hand() -> None:
    """As in the headline; one of two sites is better; 2 + 4 cases in 4 cells."""
    (row,) = paired(scores_of(BY_HAND)).to_dict("records")
    assert row["difference"] == pytest.approx(-0.05)
    assert (row["sites_better"], row["sites"], row["seeds"], row["cells"], row["cases"]) == (1, 2, 2, 4, 6)
    # site means 0.05 and -0.15: standard error 0.1, t of one degree of freedom 12.7062
    assert (row["low_sites"], row["high_sites"]) == pytest.approx((-0.05 - 1.27062, -0.05 + 1.27062), abs=1e-4)


def test_only_cells_that_both_have_are_compared() -> None:
    """Without fedavg's b/1 and b/0: only site a, 0.05."""
    dice = {job: None if job[:2] == ("fedavg", "b") else values for job, values in BY_HAND.items()}
    (row,) = paired(scores_of(dice)).to_dict("records")
    assert row["difference"] == pytest.approx(0.05)
    assert (row["sites"], row["cells"]) == (1, 2)
    assert math.isnan(row["low_sites"])


def test_a_pair_with_an_undefined_side_is_left_out() -> None:
    scores = scores_of({("fedavg", "a", 0): [0.5, 0.5], ("x", "a", 0): [math.nan, 0.7]})
    (row,) = paired(scores).to_dict("records")
    assert (row["difference"], row["cases"]) == (pytest.approx(0.2), 1)


def test_without_the_reference_nothing_is_compared() -> None:
    scores = scores_of({("x", "a", 0): [0.5, 0.6]})
    (row,) = paired(scores).to_dict("records")
    assert (row["cells"], row["sites_better"]) == (0, 0)
    assert math.isnan(row["difference"])
    assert math.isnan(headline(scores).iloc[0]["difference"])


def test_shifting_all_scores_leaves_differences_and_ranks() -> None:
    plain = headline(scores_of(BY_HAND))
    shifted = headline(scores_of({job: [value + 0.1 for value in values] for job, values in BY_HAND.items()}))
    kept = ["difference", "low", "high", "low_sites", "high_sites", "rank", "dice_sd"]
    pd.testing.assert_frame_equal(plain[kept], shifted[kept])
    assert list(shifted["dice"] - plain["dice"]) == pytest.approx([0.1, 0.1])


def test_renaming_arms_permutes_rows() -> None:
    names = {"fedavg": "zebra", "x": "aardvark"}
    plain = headline(scores_of(BY_HAND))
    other = headline(
        scores_of({(names[job[0]], *job[1:]): values for job, values in BY_HAND.items()}), reference="zebra"
    )
    other["arm"] = other["arm"].map({new: old for old, new in names.items()})
    order = {"by": "arm", "ignore_index": True}
    pd.testing.assert_frame_equal(plain.sort_values(**order), other.sort_values(**order))


def test_the_order_of_results_does_not_matter() -> None:
    backwards = dict(reversed(BY_HAND.items()))
    pd.testing.assert_frame_equal(headline(scores_of(BY_HAND)), headline(scores_of(backwards)))


def test_per_site_by_hand() -> None:
    """Jobs of fedavg at a: 0.3 and 0.5; mean 0.4, deviation 0.2 / sqrt(2)."""
    first = per_site(scores_of(BY_HAND)).iloc[0]
    assert (first["arm"], first["site"], first["seeds"], first["cases"]) == ("fedavg", "a", 2, 2)
    assert (first["value"], first["sd"]) == pytest.approx((0.4, 0.2 / math.sqrt(2)))


def test_the_mean_of_an_arm_is_the_mean_of_its_sites() -> None:
    scores = scores_of({job: values for job, values in BY_HAND.items() if job != ("x", "a", 0)})
    sites = per_site(scores).groupby("arm")["value"].mean()
    whole = headline(scores).set_index("arm")["dice"]
    assert sites.to_dict() == pytest.approx(whole.to_dict())


def test_a_study_without_noise_has_the_effects_that_it_was_made_of(tmp_path: Path) -> None:
    """0.6 + effect + mean of the site effects 0, -0.02, -0.04, -0.06, which is -0.03."""
    scores = load(Study(noise=0.0, human=True).write(tmp_path))
    dice = headline(scores).set_index("arm")["dice"]
    assert dice["fedavg"] == pytest.approx(0.57, abs=1e-4)
    assert dice["style_align"] == pytest.approx(0.60, abs=1e-4)
    assert dice["local (mean)"] == pytest.approx(0.57 - 0.1 + 0.01, abs=1e-4)  # models 0, 0.01, 0.02
    assert dice["local (best, oracle)"] == pytest.approx(0.57 - 0.1 + 0.02, abs=1e-4)
    last = headline(scores, "last").set_index("arm")["dice"]
    assert last["fedavg"] == pytest.approx(0.565, abs=1e-4)
    assert last["human"] == pytest.approx(dice["human"], abs=1e-4)


def test_within_the_federation_a_site_uses_its_own_model(tmp_path: Path) -> None:
    """0.1 more than at held-out sites; every site is in as many federations, so their mean is -0.03 again."""
    frame = in_federation(load(Study(noise=0.0, human=True).write(tmp_path)))
    dice = frame.set_index("arm")["dice"]
    assert set(dice.index) == {"fedavg", "mixstyle", "style_align", "pooled", "local"}
    assert dice["fedavg"] == pytest.approx(0.67, abs=1e-4)
    assert dice["local"] == pytest.approx(0.57, abs=1e-4)
    assert set(frame["worst_site"]) == {"stare"}


def test_the_own_model_is_preferred_to_the_global_one() -> None:
    scores = scores_of({("ditto", "a", 0): {"global": [0.5], "b": [0.7], "c": [0.1]}})
    cases = scores.cases.assign(domain="in-federation", site="b")
    (row,) = in_federation(type(scores)(cases, scores.nested, scores.curves, scores.jobs, (), ("v",), "px")).to_dict(
        "records"
    )
    assert row["dice"] == 0.7


def test_per_class_averages_every_class_by_itself(tmp_path: Path) -> None:
    study = Study(effects={"fedavg": 0.0}, classes=("disc", "cup"), noise=0.0, missed=0.125)
    frame = per_class(load(study.write(tmp_path)))
    assert list(frame["class"]) == ["disc", "cup"]
    assert list(frame["miss"]) == [0.125, 0.125]
    assert frame["dice"].nunique() == 1


@pytest.mark.parametrize(
    "study",
    [
        Study(seeds=(0,)),
        Study(sites=("a", "b"), seeds=(0, 1), failed=[("mixstyle", "a", 0)], missing=[("fedavg", "b", 1)]),
        Study(effects={"fedavg": 0.0}, sites=("only",), seeds=(0,), cases=1),
        Study(sites=("a", "b"), classes=("disc", "cup"), missed=1.0),
        Study(
            sites=("a", "b"), failed=[(arm, site, seed) for arm in ("fedavg",) for site in "ab" for seed in range(3)]
        ),
        Study(effects={"fedavg": 0.0}, sites=("a",), seeds=(0,), failed=[("fedavg", "a", 0)]),
    ],
    ids=["one seed", "holes", "one case", "all missed", "no reference", "nothing"],
)
def test_every_statistic_and_table_works_for(study: Study, tmp_path: Path) -> None:
    from fedlight.benchmark.tables import tables

    scores = load(study.write(tmp_path))
    for name, table in tables(scores).items():
        assert all(len(row) == len(table.headings) for row in table.rows), name
        assert "nan" not in table.markdown().replace("finance", "")
        assert table.latex().count("\\begin{tabular}") == 1


def test_an_unknown_checkpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="checkpoint must be best or last, got first"):
        headline(scores_of(BY_HAND), "first")
