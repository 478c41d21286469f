"""FedDG-GA: weights by hand, and the two scores that they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedDGGA
from fedlight_algorithms.feddg_ga import adjust

from fedlight.data_format import DataFormat
from fedlight.federation import Federation
from fedlight.update import Evaluation
from tests.conftest import small_sites, small_task
from tests.contracts.harness import Clinic, context_of, update_of

SHARES = {"A": 0.25, "B": 0.25, "C": 0.5}
GAPS = {"A": 0.5, "B": 0.0, "C": -0.2}


def test_losses_by_hand() -> None:
    """Mean gap 0.1, centred 0.4, -0.1, -0.3, by the largest: 1, -0.25, -0.75. Step 0.2: 0.45, 0.2, 0.35, sum 1."""
    assert adjust(SHARES, GAPS, 0.2, +1) == pytest.approx({"A": 0.45, "B": 0.2, "C": 0.35})


def test_scores_go_the_other_way() -> None:
    """0.05, 0.3, 0.65."""
    assert adjust(SHARES, GAPS, 0.2, -1) == pytest.approx({"A": 0.05, "B": 0.3, "C": 0.65})


def test_weights_are_clipped_and_divided_by_their_sum() -> None:
    """Step 0.4 for scores: -0.15, 0.35, 0.8, so 0, 0.35, 0.8, over 1.15."""
    expected = {"A": 0.0, "B": 0.35 / 1.15, "C": 0.8 / 1.15}
    assert adjust(SHARES, GAPS, 0.4, -1) == pytest.approx(expected)


def test_as_released_by_hand() -> None:
    """No centring, step 0.3 / 3: gaps by the largest are 1, 0, -0.4, so 0.35, 0.25, 0.46, over 1.06."""
    expected = {"A": 0.35 / 1.06, "B": 0.25 / 1.06, "C": 0.46 / 1.06}
    assert adjust(SHARES, GAPS, 0.3, +1, "released") == pytest.approx(expected)


def test_equal_gaps_change_nothing() -> None:
    assert adjust(SHARES, dict.fromkeys("ABC", 0.3), 0.2, -1) == SHARES


def evaluation(site: str, round: int, dice: float) -> Evaluation:
    return Evaluation(site, round, 3, {"dice": dice})


def play(plugin: FedDGGA, context: Any, local: dict[str, float]) -> float:
    """From 0; A goes to 1, B to 0: what comes out is the weight of A."""
    plugin.begin(context, {"w": torch.zeros(1)})
    for site, value in (("A", 1.0), ("B", 0.0)):
        plugin.add(replace(update_of(site, {"w": torch.tensor([value])}), metrics={"local/dice": local[site]}))
    return plugin.finish()["w"].item()


def test_rounds_by_hand() -> None:
    """Weights 1, 1 and 10 rounds. After round 1 the average is worse than A's own model, better than B's.

    Gaps -0.2, 0.1 centre to -0.15, 0.15, by the largest -1, 1. Step 0.2: A has 0.7 in round 2, when gaps are equal; in
    round 3 nothing changes, then gaps 0.1, 0 after round 3, step 0.2 * 0.8 = 0.16: 0.54.
    """
    plugin, base = FedDGGA(), replace(context_of(("A", "B"), rounds=10), weights={"A": 1.0, "B": 1.0})
    assert play(plugin, base, {"A": 0.8, "B": 0.5}) == 0.5
    scores = {site: evaluation(site, 1, 0.6) for site in "AB"}
    assert play(plugin, replace(base, round=2, evaluations=scores), {"A": 0.5, "B": 0.5}) == pytest.approx(0.7)
    scores = {site: evaluation(site, 2, 0.6) for site in "AB"}
    assert play(plugin, replace(base, round=3, evaluations=scores), {"A": 0.5, "B": 0.5}) == pytest.approx(0.7)
    scores = {"A": evaluation("A", 3, 0.6), "B": evaluation("B", 3, 0.5)}
    assert play(plugin, replace(base, round=4, evaluations=scores), {"A": 0.5, "B": 0.5}) == pytest.approx(0.54)


def test_scores_of_another_round_are_not_compared() -> None:
    plugin, base = FedDGGA(), replace(context_of(("A", "B"), rounds=10), weights={"A": 1.0, "B": 1.0})
    scores = {site: evaluation(site, 1, 0.6) for site in "AB"}
    play(plugin, replace(base, round=2), {"A": 0.8, "B": 0.5})
    assert play(plugin, replace(base, round=3, evaluations=scores), {"A": 0.8, "B": 0.5}) == 0.5


def test_a_weight_of_zero_leaves_the_site_out() -> None:
    """Weights 1, 1, step 0.5: A, at which the average does best, ends at 0."""
    plugin = FedDGGA(step_size=0.5)
    base = replace(context_of(("A", "B"), rounds=10), weights={"A": 1.0, "B": 1.0})
    play(plugin, base, {"A": 0.1, "B": 0.9})
    scores = {site: evaluation(site, 1, 0.6) for site in "AB"}
    assert play(plugin, replace(base, round=2, evaluations=scores), {"A": 0.1, "B": 0.9}) == 0


def test_sites_score_their_own_model_after_training() -> None:
    """What a site reports is what an evaluation of its own parameters says."""
    clinic = Clinic.of(FedDGGA()).play(1)
    update = clinic.fit("A", clinic.broadcast())
    clinic.evaluate(replace(clinic.broadcast(), params=update.params))
    assert update.metrics["local/dice"] == clinic.evaluations["A"].metrics["dice"]


def test_weights_move_in_a_real_federation(federate: Callable[..., Federation]) -> None:
    """Three sites, three rounds: the weights that the third round used sum to 1 and are not those of the cases."""
    federation = federate(aggregator=FedDGGA())
    folder = federation.fit(small_task(), small_sites())
    saved = folder.load()
    assert saved is not None
    shares = saved["server"]["aggregator"]["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert len(set(shares.values())) > 1
    assert '"local/dice"' in (folder.path / "metrics.jsonl").read_text()


def test_a_class_that_the_data_do_not_have_is_refused_when_the_config_is_read() -> None:
    data = DataFormat(("background", "disc", "cup"), 3, (16, 16))
    FedDGGA(metric="dice/cup").check(data)
    with pytest.raises(ValueError, match="metric must name a class among disc, cup, got dice/vessel"):
        FedDGGA(metric="dice/vessel").check(data)


@pytest.mark.parametrize("arguments", [{"step_size": 2.0}, {"metric": "hd95"}, {"variant": "other"}])
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        FedDGGA(**arguments).validate()


def test_shares_stay_where_the_released_rule_would_leave_nobody_any() -> None:
    """Every gap is 0.1 and not centred: 0.25 - 1/3 is below 0 for all four."""
    shares = dict.fromkeys("abcd", 0.25)
    assert adjust(shares, dict.fromkeys("abcd", 0.1), 1.0, -1, "released") == shares
