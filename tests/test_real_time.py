"""Rounds by the real clock: the server goes on with those that are first, and the record repeats the run.

Sites train in this process and say that they are done by a clock of our own, so the real one does not matter here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fedlight_algorithms import FedPer, Scaffold

from fedlight import state
from fedlight.checkpoint import RunFolder, SiteStore
from fedlight.cli import built
from fedlight.executors import Flower, InProcess, MultiProcess
from fedlight.executors.executor import ClientFactory, Reply
from fedlight.federation import Federation
from fedlight.preparation import ConfigError
from fedlight.privacy.accounting import Ledger
from fedlight.privacy.example_level import ExampleLevel
from fedlight.replay import Replay
from fedlight.schedule import Buffered, Deadline, Schedule
from fedlight.secure_aggregation import SecureAggregation
from fedlight.server import RoundFailedError
from fedlight.update import Broadcast
from tests.conftest import small_sites, small_task
from tests.test_resume import StopError, stop_after

Federate = Callable[..., Federation]
SECONDS = {"site1": 1.0, "site2": 2.5, "site3": 10.0, "site4": 3.2}


class Paced(InProcess):
    """Sites that train when they begin and say so later, by a clock of their own."""

    concurrent = True

    def __init__(self, seconds: Mapping[str, float] = SECONDS) -> None:
        super().__init__()
        self.seconds, self.now = seconds, 0.0
        self.at_work: dict[str, tuple[float, Reply]] = {}
        self.ended: list[str] = []

    def open(self, sites: Sequence[str], make_client: ClientFactory, round: int, *more: Any) -> dict[str, int]:
        self.make_client, self.before, self.undone = make_client, dict[str, int](), dict[str, int]()
        self.at_work.clear()
        return super().open(sites, make_client, round, *more)

    def start(self, messages: Mapping[str, Broadcast]) -> None:
        for site, message in messages.items():
            undone = self.undone.pop(site, None)
            self.before[site] = self._workplace.finished(site) if undone is None else undone
            reply = self._workplace.work("fit", site, message, undone)
            self.at_work[site] = self.now + self.seconds[site], reply

    def answer(self, seconds: float | None = None) -> tuple[str, Reply] | None:
        site = min(self.at_work, key=lambda site: self.at_work[site][0])
        done = self.at_work[site][0]
        self.now = max(self.now, done if seconds is None else min(done, self.now + seconds))
        return (site, self.at_work.pop(site)[1]) if done <= self.now else None

    def stop(self, sites: Sequence[str]) -> None:
        for site in sites:
            del self.at_work[site]
            self.ended.append(site)
            self.undone[site] = self.before[site]
            self.make_client.store(site).rewind(self.before[site])


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Paced:
    executor = Paced()
    monkeypatch.setattr("fedlight.real_time.time", SimpleNamespace(monotonic=lambda: executor.now))
    return executor


def four_sites() -> Any:
    """Four training sites, and a fifth that takes no part."""
    return small_sites(num_sites=5, held_out="site5")


def rows(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def starts(folder: RunFolder) -> list[dict[str, int]]:
    """The sites of every round with the versions that they started from."""
    found: dict[int, dict[str, int]] = {}
    for row in rows(folder, "fit"):
        found.setdefault(row["round"], {})[row["site"]] = row["round"] - 1 - int(row.get("staleness", 0))
    return [found[number] for number in sorted(found)]


def bits(folder: RunFolder) -> str:
    """A digest of the server, and of what every site would go on from."""
    saved = folder.load()
    assert saved is not None
    tensors = {**saved["server"]["params"], **saved["server"]["buffers"]}
    for site in sorted(folder.sites.glob("*/")):
        kept = SiteStore(site).load(10**6)
        if kept is None:  # it never counted
            continue
        flat = {**kept["own"], **_flat(kept["optimizer"], "optimizer"), **_flat(kept["plugins"], "plugins")}
        tensors |= {f"{site.name}/{name}": value for name, value in flat.items()}
    return state.digest(tensors)


def _flat(tree: Any, name: str) -> dict[str, torch.Tensor]:
    if isinstance(tree, Mapping):
        return {key: value for part in tree for key, value in _flat(tree[part], f"{name}/{part}").items()}
    return {name: tree} if isinstance(tree, torch.Tensor) else {}


# --- who counts ------------------------------------------------------------------------------------------------------


def test_a_buffer_goes_on_with_those_that_are_first(federate: Federate, paced: Paced) -> None:
    """By hand, as for the simulated clock: site1 takes 1, site2 2.5, site3 10; two updates make a version.

    site1 at 1 and site2 at 2.5 make version 1. Both begin anew: site1 at 3.5 and site2 at 5 make version 2; then at 6
    and 7.5 version 3; site1 at 8.5 and site3, which began with version 0, at 10 make version 4. At 10 site2 is done
    too, from version 3: it is in version 5 with site1, which works from 10 to 11.
    """
    folder = federate(schedule=Buffered(buffer=2, clock="real"), executor=paced, rounds=5).fit(
        small_task(), small_sites()
    )
    assert starts(folder) == [
        {"site1": 0, "site2": 0},
        {"site1": 1, "site2": 1},
        {"site1": 2, "site2": 2},
        {"site1": 3, "site3": 0},
        {"site1": 4, "site2": 3},
    ]
    assert [row["cohort"] for row in rows(folder, "round")][3] == ["site1", "site3"]
    assert paced.now == 11.0
    assert paced.ended == ["site3"]  # at work when the last round was over
    arrived = {(row["round"], row["site"]): row["seconds_arrived"] for row in rows(folder, "fit")}
    assert arrived[1, "site1"], arrived[1, "site2"] == (1.0, 2.5)
    assert all(row["bytes_up"] > 0 and row["bytes_down"] > 0 for row in rows(folder, "fit"))


def test_by_a_deadline_the_late_are_ended_and_named(federate: Federate, paced: Paced) -> None:
    folder = federate(schedule=Deadline(3.0, clock="real"), executor=paced, rounds=2).fit(small_task(), small_sites())
    assert starts(folder) == [{"site1": 0, "site2": 0}, {"site1": 1, "site2": 1}]
    assert paced.now == 6.0
    assert paced.ended == ["site3", "site3"]
    assert {(row["site"], row["cause"], row["reason"]) for row in rows(folder, "failure")} == {
        ("site3", "late", "no answer within 3 s")
    }
    assert [row["cohort"] for row in rows(folder, "round")] == [["site1", "site2", "site3"]] * 2


def test_of_more_sites_than_needed_the_first_ones_count_and_the_others_are_not_needed(
    federate: Federate, paced: Paced
) -> None:
    """Half of four are wanted, three are asked, two count; the third is ended without waiting for it."""
    schedule = Deadline(extra=0.5, clock="real")
    folder = federate(schedule=schedule, executor=paced, rounds=4, cohort=0.5).fit(small_task(), four_sites())
    for asked, counted in zip((row["cohort"] for row in rows(folder, "round")), starts(folder), strict=True):
        assert len(asked) == 3
        assert set(counted) == set(sorted(asked, key=SECONDS.__getitem__)[:2])
    reasons = {(row["cause"], row["reason"]) for row in rows(folder, "failure")}
    assert reasons == {("unneeded", "not needed: 2 others were first")}


def test_a_round_waits_beyond_its_deadline_for_as_many_as_it_needs(federate: Federate, paced: Paced) -> None:
    folder = federate(schedule=Deadline(0.5, clock="real"), executor=paced, rounds=1, min_sites=2).fit(
        small_task(), small_sites()
    )
    assert starts(folder) == [{"site1": 0, "site2": 0}]


def test_when_nobody_is_left_at_work_the_round_goes_on_or_fails(federate: Federate, paced: Paced) -> None:
    """All raise: nobody answers with an update, so there is nothing to wait for."""
    data = small_sites()
    federation = federate(schedule=Buffered(buffer=2, clock="real"), executor=paced, rounds=1)

    def fail(*arguments: Any, **more: Any) -> Any:
        raise RuntimeError("the scanner is on fire")

    run = federation._open(small_task(), data, None)
    run.make_client.data.train_loader = fail  # type: ignore[method-assign]
    with run.claim(), federation._at_work(run), pytest.raises(RoundFailedError, match="has 0 usable updates"):
        federation._round(run, 1)


# --- the same bits once more -----------------------------------------------------------------------------------------

STATEFUL: dict[str, Any] = {"optimizer_state": "keep", "rounds": 5}


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (Buffered(buffer=1, exponent=0.5, clock="real"), {"aggregator": Scaffold()}),
        (Buffered(buffer=2, concurrency=3, clock="real"), {"plugins": [FedPer()]}),
        (Deadline(3.0, extra=0.5, clock="real"), {"cohort": 0.5, "aggregator": Scaffold()}),
        (
            Deadline(extra=0.4, clock="real"),
            {"cohort": 0.75, "secure_aggregation": SecureAggregation(), "min_sites": 3, "rounds": 3},
        ),
    ],
    ids=["buffer", "personal", "deadline", "secure"],
)
def test_a_run_by_the_clock_is_repeated_from_its_record_bit_for_bit_also_if_it_was_interrupted(
    federate: Federate, paced: Paced, tmp_path: Path, schedule: Schedule, settings: dict[str, Any]
) -> None:
    """Interrupted after two rounds while sites were at work: what was on its way is asked for again."""
    settings = {**STATEFUL, **settings}
    first = federate(**settings, schedule=schedule, executor=paced, run_folder=str(tmp_path / "real"))
    stop_after(first, 2)
    with pytest.raises(StopError):
        first.fit(small_task(), four_sites())
    paced.seconds = {"site1": 4.0, "site2": 1.1, "site3": 1.0, "site4": 3.0}
    real = federate(**settings, schedule=schedule, executor=paced, run_folder=str(tmp_path / "real")).fit(
        small_task(), four_sites(), ckpt_path="last"
    )
    again = federate(**settings, schedule=Replay(str(real.path)), run_folder=str(tmp_path / "again")).fit(
        small_task(), four_sites()
    )
    assert starts(again) == starts(real)
    assert bits(again) == bits(real)


def test_a_repeated_run_that_is_interrupted_goes_on_with_the_same_bits(
    federate: Federate, paced: Paced, tmp_path: Path
) -> None:
    settings = {**STATEFUL, "aggregator": Scaffold()}
    real = federate(**settings, schedule=Buffered(buffer=1, clock="real"), executor=paced).fit(
        small_task(), small_sites()
    )
    replay = {"schedule": Replay(str(real.path)), "run_folder": str(tmp_path / "again")}
    first = federate(**settings, **replay)
    stop_after(first, 3)
    with pytest.raises(StopError):
        first.fit(small_task(), small_sites())
    again = federate(**settings, **replay).fit(small_task(), small_sites(), ckpt_path="last")
    assert bits(again) == bits(real)


def test_all_at_once_by_the_clock_are_a_run_in_step(federate: Federate, paced: Paced, tmp_path: Path) -> None:
    plain = federate().fit(small_task(), small_sites())
    for number, schedule in enumerate((Buffered(buffer=3, clock="real"), Deadline(99.0, clock="real"))):
        folder = federate(schedule=schedule, executor=paced, run_folder=str(tmp_path / f"{number}")).fit(
            small_task(), small_sites()
        )
        assert bits(folder) == bits(plain)


# --- privacy ---------------------------------------------------------------------------------------------------------


def test_a_site_that_was_not_needed_has_spent_its_privacy_all_the_same(federate: Federate, paced: Paced) -> None:
    """site3 never counts, and is charged for its two steps in all three rounds."""
    settings: dict[str, Any] = {"example_privacy": ExampleLevel(epsilon=None, noise=1.0), "rounds": 3}
    folder = federate(**settings, schedule=Deadline(3.0, clock="real"), executor=paced).fit(
        small_task(batch_dice=False), small_sites()
    )
    charged = {
        site: sum(charge.steps for charge in Ledger(folder.sites / site / "privacy.json").charges)
        for site in ("site1", "site3")
    }
    assert charged == {"site1": 6, "site3": 6}


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"schedule": Buffered(clock="real")}, "executor must be one whose sites work at the same time"),
        ({"schedule": Deadline(clock="real"), "executor": MultiProcess()}, "deadline, in seconds, or extra must be"),
        (
            {"schedule": Deadline(0.0, clock="real"), "executor": MultiProcess()},
            r"deadline must be above 0, got 0.0. It is in seconds",
        ),
        ({"schedule": Buffered(), "sampling": "poisson"}, "sampling must be fixed with Buffered"),
        ({"schedule": Buffered(), "cohort": 0.5}, "cohort and availability must be left out with Buffered"),
        (
            {"schedule": Deadline(extra=0.5), "sampling": "poisson", "cohort": 0.9},
            "sampling must be fixed with Deadline",
        ),
        ({"schedule": Replay("nowhere")}, "run must be the folder of a run with rounds"),
        ({"executor": Flower(["a"], lease=0)}, "lease must be above 0 seconds"),
    ],
)
def test_what_cannot_be_is_refused_before_any_training(
    federate: Federate, tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        federate(**settings).fit(small_task(), small_sites())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["buffered", "deadline"])
def test_the_configs_of_schedules_work_and_repeat_their_exponent(name: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[1] / "configs"
    files = [str(root / "quickstart.yaml"), str(root / "schedules" / f"{name}.yaml")]
    federation, _, data = built(["fit", *(part for file in files for part in ("-c", file))])
    data.prepare()
    federation.schedule.check(len(data.sites), federation.min_sites)
    assert federation.schedule.clock == "real"
    assert federation.executor.concurrent
    run = RunFolder(tmp_path)
    run.create(federation.config)
    rows = [{"round": 1, "kind": "fit", "site": "a"}, {"round": 1, "kind": "round", "cohort": ["a"]}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replay = Replay(str(tmp_path), exponent=0.25)
    replay.check(1, 1)
    assert replay.exponent == {"buffered": 0.5, "deadline": 0.25}[name]


def test_a_record_repeats_no_more_rounds_than_it_has(federate: Federate, tmp_path: Path) -> None:
    one = federate(rounds=1).fit(small_task(), small_sites())
    with pytest.raises(ConfigError, match="rounds must be at most 1, got 2: there are no more in the record"):
        federate(rounds=2, schedule=Replay(str(one.path)), run_folder=str(tmp_path / "again")).fit(
            small_task(), small_sites()
        )
