"""Sites that work in step, up to a deadline or each at its own pace: who arrives when is known beforehand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedAvg

from fedlight import state
from fedlight.checkpoint import RunFolder
from fedlight.cohort import Cohorts
from fedlight.federation import Federation
from fedlight.history import rebased
from fedlight.preparation import ConfigError
from fedlight.schedule import Buffered, Deadline, Pace, Plan, Schedule, Synchronous
from fedlight.update import Broadcast, RoundContext, Update
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]
SITES = tuple(f"s{number}" for number in range(10))


def plans(schedule: Schedule, rounds: int, **settings: Any) -> list[Plan]:
    return list(islice(schedule.plans(Cohorts(**{"sites": SITES, "share": 1.0, **settings})), rounds))


# --- plans -----------------------------------------------------------------------------------------------------------


def test_in_step_everybody_starts_from_the_newest_version() -> None:
    cohorts = Cohorts(SITES, 0.4, seed=3)
    found = list(islice(Synchronous().plans(cohorts), 5))
    assert [tuple(plan.starts) for plan in found] == [cohorts.draw(number) for number in range(1, 6)]
    assert [set(plan.starts.values()) for plan in found] == [{0}, {1}, {2}, {3}, {4}]
    assert all(plan.late == () and plan.time is None and not plan.pending for plan in found)


def test_by_a_deadline_come_those_whose_time_is_within_it() -> None:
    pace = Pace(0, 1.0, 0.2)
    for number, plan in enumerate(plans(Deadline(1.0), 6), start=1):
        times = {site: pace.time(site, number) for site in SITES}
        assert set(plan.starts) == {site for site in SITES if times[site] <= 1.0}
        assert set(plan.late) == set(SITES) - set(plan.starts)
    clock = [plan.time for plan in plans(Deadline(1.0), 6)]
    assert clock == pytest.approx([1, 2, 3, 4, 5, 6])


def test_a_deadline_that_is_left_out_is_that_of_two_usual_rounds_by_the_simulated_clock() -> None:
    assert plans(Deadline(), 5) == plans(Deadline(2.0), 5) != plans(Deadline(1e6), 5)


def test_a_round_waits_beyond_its_deadline_for_as_many_as_it_needs() -> None:
    pace = Pace(0, 1.0, 0.2)
    for number, plan in enumerate(plans(Deadline(1e-6), 4, min_sites=2), start=1):
        times = {site: pace.time(site, number) for site in SITES}
        fastest = sorted(SITES, key=times.__getitem__)[:2]
        assert set(plan.starts) == set(fastest)


def test_of_more_sites_than_needed_the_first_ones_count() -> None:
    """Four of ten are wanted, six are asked: the four fastest of them, and the round ends with the fourth."""
    before = 0.0
    for number, plan in enumerate(plans(Deadline(1e6, extra=0.5), 5, share=0.4), start=1):
        asked = [*plan.starts, *plan.late]
        times = sorted(Pace(0, 1.0, 0.2).time(site, number) for site in asked)
        assert (len(plan.starts), len(plan.late)) == (4, 2)
        assert set(Cohorts(SITES, 0.4).draw(number)) <= set(asked)
        assert plan.time is not None
        assert plan.time - before == pytest.approx(times[3])
        before = plan.time


def test_a_buffer_is_filled_by_those_who_are_done_first() -> None:
    """By hand: site A takes 1, B 2.5, C 10; two updates make a version.

    A at 1 and B at 2.5 make version 1 (time 2.5). Both begin anew: A at 3.5 and B at 5 make version 2; then A at 6 and
    B at 7.5 version 3; A at 8.5 and C, which began with version 0, at 10 make version 4: B is done at 10 too, after C.
    """
    seconds = {"A": 1.0, "B": 2.5 + 1e-6, "C": 10.0}
    arrivals = Buffered(buffer=2).arrivals(Cohorts(("A", "B", "C"), 1.0), lambda site, turn: seconds[site])
    found = list(islice(arrivals, 4))
    assert [dict(plan.starts) for plan in found] == [
        {"A": 0, "B": 0},
        {"A": 1, "B": 1},
        {"A": 2, "B": 2},
        {"A": 3, "C": 0},
    ]
    assert [plan.time for plan in found] == pytest.approx([2.5, 5.0, 7.5, 10.0], abs=1e-4)
    assert [plan.pending for plan in found] == [frozenset({0}), frozenset({0}), frozenset({0}), frozenset({3})]


def test_slow_sites_take_part_less_often_and_come_back_to_older_versions() -> None:
    found = plans(Buffered(buffer=2), 200)
    counts = Counter(site for plan in found for site in plan.starts)
    pace = {site: Pace(0, 1.0, 0.0).time(site, 1) for site in SITES}
    fastest, slowest = min(SITES, key=pace.__getitem__), max(SITES, key=pace.__getitem__)
    assert counts[fastest] > 2 * counts[slowest] > 0
    stale = {
        site: [number - 1 - plan.starts[site] for number, plan in enumerate(found, start=1) if site in plan.starts]
        for site in (fastest, slowest)
    }
    assert max(stale[fastest]) < max(stale[slowest])


def test_a_version_is_pending_until_its_last_site_has_come() -> None:
    found = plans(Buffered(buffer=3, concurrency=7), 50)
    for number, plan in enumerate(found):
        later = {version for after in found[number + 1 :] for version in after.starts.values() if version <= number}
        assert later <= plan.pending
        assert len(plan.starts) == 3


def test_plans_are_the_seeds() -> None:
    for schedule in (Synchronous(), Deadline(), Buffered()):
        assert plans(schedule, 20, seed=1) == plans(schedule, 20, seed=1) != plans(schedule, 20, seed=2, share=0.5)


def test_paces_have_the_spread_that_was_asked_for() -> None:
    """The logarithm of 400 paces has a standard deviation of 0.7: within 0.1, four standard errors."""
    logs = torch.tensor([Pace(0, 0.7, 0.0).time(f"s{number}", 1) for number in range(400)]).log()
    assert float(logs.std()) == pytest.approx(0.7, abs=0.1)
    assert float(logs.mean()) == pytest.approx(0.0, abs=0.14)
    assert Pace(0, 0.0, 0.0).time("a", 1) == 1.0


# --- stale updates ---------------------------------------------------------------------------------------------------


def message(value: float) -> Broadcast:
    context = RoundContext(3, 9, 0, ("a",), ("a",), {"a": 1}, {"a": 1.0})
    return Broadcast(context, {"w": torch.tensor([value])}, {})


def test_a_stale_update_moves_the_newest_model_by_a_share_of_its_way() -> None:
    """From 1 to 3 is 2; half of it from 10 on is 11."""
    update = Update("a", 3, 1, {"w": torch.tensor([3.0])}, {})
    assert rebased(update, message(1.0), message(10.0), 0.5).params["w"].item() == 11.0
    assert update.params["w"].item() == 3.0


@pytest.mark.parametrize("params", [{}, {"w": torch.zeros(2)}, {"w": torch.tensor([float("nan")])}])
def test_an_update_that_cannot_be_used_is_left_for_the_server_to_refuse(params: dict[str, torch.Tensor]) -> None:
    update = Update("a", 3, 1, params, {})
    assert rebased(update, message(1.0), message(10.0), 0.5) is update


# --- runs ------------------------------------------------------------------------------------------------------------


def trained(folder: RunFolder) -> state.State:
    found: state.State = torch.load(folder.last, weights_only=True)["state_dict"]
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_buffer_of_all_sites_is_federated_averaging(federate: Federate) -> None:
    plain = federate(rounds=2).fit(small_task(), small_sites())
    buffered = federate(rounds=2, schedule=Buffered(buffer=len(small_sites_of())), run_folder=f"{plain.path}-b").fit(
        small_task(), small_sites()
    )
    assert state.digest(trained(plain)) == state.digest(trained(buffered))


def small_sites_of() -> tuple[str, ...]:
    data = small_sites()
    data.prepare()
    return data.sites


def test_a_run_says_how_stale_updates_were_and_who_was_late(federate: Federate) -> None:
    folder = federate(rounds=6, schedule=Buffered(buffer=1)).fit(small_task(), small_sites()).path
    fits = [row for row in rows(folder) if row["kind"] == "fit"]
    assert len(fits) == 6
    assert any(row.get("staleness", 0) > 0 for row in fits)
    times = [row["seconds_simulated"] for row in rows(folder) if row["kind"] == "round"]
    assert times == sorted(times)
    folder = (
        federate(rounds=3, schedule=Deadline(1.0), run_folder=f"{folder}-late").fit(small_task(), small_sites()).path
    )
    late = [row for row in rows(folder) if row["kind"] == "failure"]
    assert late
    assert {(row["phase"], row["cause"]) for row in late} == {("fit", "late")}


@pytest.mark.parametrize("schedule", [Buffered(buffer=1), Deadline(1.0)])
def test_a_resumed_run_has_the_same_bits(federate: Federate, tmp_path: Path, schedule: Schedule) -> None:
    whole = federate(rounds=6, schedule=schedule).fit(small_task(), small_sites())
    parts = {"schedule": schedule, "run_folder": str(tmp_path / "parts")}
    federate(rounds=3, **parts).fit(small_task(), small_sites())
    resumed = federate(rounds=6, **parts).fit(small_task(), small_sites(), ckpt_path="last")
    assert state.digest(trained(whole)) == state.digest(trained(resumed))


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (Buffered(buffer=9), "buffer must be from 1"),
        (Buffered(buffer=0), "buffer must be from 1"),
        (Buffered(concurrency=9), "concurrency must be from 1"),
        (Buffered(exponent=-1.0), "exponent must not be negative"),
        (Buffered(spread=-1.0), "spread must not be negative"),
        (Deadline(0.0), "deadline must be above 0"),
        (Deadline(extra=-0.5), "extra must not be negative"),
        (Deadline(jitter=-1.0), "jitter must not be negative"),
    ],
)
def test_wrong_arguments_are_refused_before_any_training(tmp_path: Path, schedule: Schedule, sentence: str) -> None:
    federation = Federation(FedAvg(), schedule=schedule, run_folder=str(tmp_path / "run"), console=False)
    with pytest.raises(ConfigError, match=sentence):
        federation.fit(small_task(), small_sites())
    assert not (tmp_path / "run").exists()
