"""Verdicts follow from the intervals, and only from complete results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedlight.benchmark.claims import FAMILIES, claims
from fedlight.plugins.alignment import Alignment
from fedlight.plugins.discovery import find
from fedlight.plugins.style import StyleAugmentation
from tests.benchmark.results import scores_of

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "algorithms").glob("*.yaml"))
Dice = dict[tuple[str, str, int], Any]


def arm(name: str, dice: float, seeds: Sequence[int] = (0, 1)) -> Dice:
    """Three cases at two sites, in every seed a little different."""
    return {(name, site, seed): [dice - 0.01, dice, dice + 0.01 * (1 + seed)] for site in "ab" for seed in seeds}


def local(dice: float) -> Dice:
    return {job: {"p": values, "q": [v + 0.02 for v in values]} for job, values in arm("local", dice).items()}


def verdicts(dice: Dice, **settings: Any) -> dict[str, str]:
    frame = claims(scores_of(dice), **settings)
    return {f"{row['arm']} / {row['against']}": row["verdict"] for row in frame.to_dict("records")}


def test_better_holds_worse_does_not_hold_and_equal_is_not_shown() -> None:
    found = verdicts(arm("fedavg", 0.5) | local(0.3) | arm("pooled", 0.55) | arm("mixstyle", 0.5))
    assert found == {
        "fedavg / local (mean)": "holds",
        "fedavg / local (best, oracle)": "holds",
        "fedavg / pooled": "does not hold",  # 0.05 below, more than the margin
        "mixstyle / fedavg": "not shown",
        " / fedavg": "not shown",  # no arm has style and alignment
    }


def test_pooled_data_may_be_better_by_the_margin() -> None:
    dice = arm("fedavg", 0.5) | arm("pooled", 0.51)
    assert verdicts(dice)["fedavg / pooled"] == "holds"
    assert verdicts(dice, margin=0.005)["fedavg / pooled"] == "does not hold"


def test_the_best_arm_decides_and_says_that_it_was_chosen() -> None:
    frame = claims(scores_of(arm("fedavg", 0.5) | arm("mixstyle", 0.6) | arm("ccst", 0.7) | arm("fedprox", 0.9)))
    second = frame[frame["claim"] == 2]
    assert list(second["arm"]) == ["ccst", "mixstyle"]
    assert list(second["decisive"]) == [True, False]
    assert "best of 2" in second.iloc[0]["note"]


def test_more_arms_make_wider_intervals() -> None:
    noisy = arm("fedavg", 0.5) | {job: [0.5, 0.6, 0.8 + 0.1 * job[2]] for job in arm("mixstyle", 0.0)}
    alone = claims(scores_of(noisy)).query("arm == 'mixstyle'").iloc[0]
    among = claims(scores_of(noisy | arm("ccst", 0.5) | arm("elcfs", 0.4))).query("arm == 'mixstyle'").iloc[0]
    assert among["low"] < alone["low"] < alone["high"] < among["high"]
    assert among["difference"] == alone["difference"]


def test_an_addition_is_compared_with_the_arm_that_lacks_only_the_style() -> None:
    dice = arm("fedavg", 0.5) | arm("bigaug", 0.8) | arm("bigaug+mixstyle", 0.7) | arm("bigaug+style_align", 0.9)
    found = verdicts(dice)
    assert found["bigaug+mixstyle / bigaug"] == "does not hold"
    assert found["bigaug+style_align / bigaug"] == "holds"


def test_a_style_arm_with_an_alignment_arm_belongs_to_the_third_claim() -> None:
    frame = claims(scores_of(arm("fedavg", 0.5) | arm("ccst+coral", 0.6) | arm("coral", 0.9)))
    assert frame.loc[frame["arm"] == "ccst+coral", "claim"].item() == 3
    assert "coral" not in set(frame["arm"])  # alignment alone is no claim


@pytest.mark.parametrize("side", ["fedavg", "mixstyle"])
def test_with_a_failed_job_nothing_is_shown(side: str) -> None:
    dice = arm("fedavg", 0.5) | arm("mixstyle", 0.9) | {(side, "a", 1): None}
    row = claims(scores_of(dice)).query("arm == 'mixstyle'").iloc[0]
    assert row["verdict"] == "not shown"
    assert f"{side}: 3 of 4 jobs." in row["note"]


def test_one_seed_shows_nothing() -> None:
    row = claims(scores_of(arm("fedavg", 0.5, (0,)) | arm("mixstyle", 0.9, (0,)))).query("arm == 'mixstyle'").iloc[0]
    assert row["verdict"] == "not shown"
    assert "One seed" in row["note"]
    assert row["low"] > 0


def test_without_results_the_claims_are_not_shown() -> None:
    frame = claims(scores_of({("fedprox", "a", 0): None}))
    assert set(frame["verdict"]) == {"not shown"}
    assert list(frame["claim"]) == [1, 1, 1, 2, 3]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_families_name_every_style_and_alignment_config(path: Path) -> None:
    """A config belongs to a family by the classes of its plugins, which statistics must not import."""
    federation = yaml.safe_load(path.read_text()).get("federation") or {}
    named = [federation.get("aggregator"), *federation.get("plugins+", [])]
    classes = [find(one if isinstance(one, str) else one["class_path"]).cls for one in named if one]
    bases = {"style": StyleAugmentation, "alignment": Alignment}
    kinds = {kind for kind, base in bases.items() if any(issubclass(cls, base) for cls in classes)}
    assert path.stem in ("bigaug", "bigaug_half", "randconv") or kinds <= FAMILIES.get(path.stem, frozenset())
