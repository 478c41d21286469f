"""A search tries as many settings for every arm, never looks at the held-out site, and can be gone on with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

from fedlight.__main__ import main
from fedlight.benchmark.plan import Arm, Job, Protocol
from fedlight.benchmark.runner import Runner
from fedlight.benchmark.scores import load
from fedlight.benchmark.search import Search, read_spaces, validation_dice
from fedlight.preparation import ConfigError
from tests.benchmark.tiny import ROOT, SMALL, records

pytestmark = pytest.mark.usefixtures("place")


def arm(name: str, *files: str) -> Arm:
    return Arm(name, tuple(ROOT / "configs" / "algorithms" / f"{file}.yaml" for file in files or (name,)))


def spaces(place: Path, text: str) -> Path:
    path = place / "spaces.yaml"
    path.write_text(text)
    return path


# --- drawing ---------------------------------------------------------------------------------------------------------


def test_a_trial_changes_what_was_asked_for_and_nothing_else(place: Path) -> None:
    space = {"FedAvgAlign.weight": {"log_uniform": [0.001, 1]}, "CrossMixStyle.p": [0.25]}
    search = Search({"style_align": space}, 3, 0, place / "search")
    before = yaml.safe_load((ROOT / "configs/algorithms/style_align.yaml").read_text())
    weights = set()
    for job in search.jobs([arm("style_align")], ["a", "b"]):
        (path,) = job.arm.configs
        after = yaml.safe_load(path.read_text())
        weights.add(after["federation"]["aggregator"]["init_args"].pop("weight"))
        assert after["federation"]["plugins+"][0]["init_args"].pop("p") == 0.25
        expected = yaml.safe_load(json.dumps(before))
        del expected["federation"]["aggregator"]["init_args"]["weight"]
        del expected["federation"]["plugins+"][0]["init_args"]["p"]
        assert {**after, "load": []} == {**expected, "load": []}
    assert len(weights) == 2  # trials 1 and 2; the same at both sites
    assert all(0.001 <= weight <= 1 for weight in weights)


def test_an_aggregator_that_is_written_as_a_name_gets_arguments(place: Path) -> None:
    (place / "plain.yaml").write_text("federation: { aggregator: FedAvgM }")
    search = Search({"plain": {"FedAvgM.momentum": [0.7]}}, 2, 0, place / "search")
    (job,) = search.jobs([Arm("plain", (place / "plain.yaml",))], ["a"])
    found = yaml.safe_load(job.arm.configs[0].read_text())
    assert found["federation"]["aggregator"] == {"class_path": "FedAvgM", "init_args": {"momentum": 0.7}}


def test_draws_stay_in_their_range_and_differ_between_trials(place: Path) -> None:
    search = Search({"fedprox": {"FedProx.mu": {"log_uniform": [0.0001, 10]}}}, 101, 0, place / "search")
    found = [
        yaml.safe_load(job.arm.configs[0].read_text())["federation"]["plugins+"][0]["init_args"]["mu"]
        for job in search.jobs([arm("fedprox")], ["a"])
    ]
    assert all(0.0001 <= mu <= 10 for mu in found)
    below = sum(mu < 0.03162 for mu in found)  # the middle of the range on a logarithmic scale
    assert 30 <= below <= 70  # binomial, 100 draws: outside with a probability below 1e-4
    assert len(set(found)) > 90


# --- choosing --------------------------------------------------------------------------------------------------------


def result(runner: Runner, job: Job, dice: float | None) -> None:
    """Leaves what a job would leave that was best in its second of two rounds, or failed."""
    folder = runner.output / "results" / job.name
    folder.mkdir(parents=True)
    curve = [{"round": 1, "val_dice": 0.99}, {"round": 2, "val_dice": dice}]
    record = {
        "format": 1,
        "status": "failed" if dice is None else "ok",
        "reason": "it broke" if dice is None else "",
        "fingerprint": runner.protocol.fingerprint(job),
        "selected_round": 2,
        "curve": curve,
    }
    (folder / "job.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("dice", "chosen"),
    [
        ([0.5, 0.6, 0.7], 2),  # the best
        ([0.7, 0.6, 0.7], 0),  # of two the first: the method as it is
        ([0.5, 0.6, None], 1),  # a failed trial has no say
        ([None, 0.2, 0.1], 1),
    ],
)
def test_validation_dice_of_the_selected_round_decides(place: Path, dice: list[float | None], chosen: int) -> None:
    base = arm("fedprox")
    search = Search({"fedprox": {"FedProx.mu": {"uniform": [0.1, 1]}}}, 3, 0, place / "search")
    own = Runner(Protocol((place / "base.yaml",)), place / "out")
    (place / "base.yaml").write_text("seed_everything: 0")
    trials = Runner(Protocol((place / "base.yaml",), scored=False), place / "search")
    variants = search.jobs([base], ["a"])
    result(own, Job(base, ("a",), 0), dice[0])
    for job, value in zip(variants, dice[1:], strict=True):
        result(trials, job, value)
    (tuned,) = search.tuned([base], ["a"], own, trials)["a"]
    assert tuned.name == "fedprox@tuned"
    assert tuned.configs == (base.configs if chosen == 0 else variants[chosen - 1].arm.configs)


def test_without_any_result_there_is_no_tuned_arm(place: Path) -> None:
    search = Search({"fedprox": {"FedProx.mu": [1.0]}}, 2, 0, place / "search")
    (place / "base.yaml").write_text("seed_everything: 0")
    runner = Runner(Protocol((place / "base.yaml",)), place / "out")
    assert search.tuned([arm("fedprox")], ["a"], runner, runner) == {"a": []}


def test_trials_are_not_scored(place: Path) -> None:
    job = Job(arm("fedprox"), ("a",), 0)
    commands = Protocol((place / "base.yaml",), scored=False).commands(job, place / "run")
    assert [command[1] for command in commands] == ["fit"]


# --- what cannot be searched -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "must name an arm"),
        ("fedprox: 3", "must hold settings"),
        ("fedprox: { FedProks.mu: [1] }", "FedProks.mu .* must begin with a plugin. Did you mean FedProx"),
        ("fedprox: { FedProx.my: [1] }", "must be an argument of FedProx. Known are mu"),
        ("fedprox: { FedProx.mu: [] }", "must be a list of values"),
        ("fedprox: { FedProx.mu: { uniform: [2, 1] } }", "low < high"),
        ("fedprox: { FedProx.mu: { uniform: [1] } }", "low < high"),
        ("fedprox: { FedProx.mu: { log_uniform: [0, 1] } }", "above 0"),
        ("fedprox: { FedProx.mu: { normal: [0, 1] } }", "must be a list of values"),
    ],
)
def test_a_file_that_cannot_be_searched_is_refused(place: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_spaces(spaces(place, text))


def test_only_arms_and_plugins_of_the_benchmark_are_searched(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"must name arms of this benchmark, got fedprok\. Did you mean fedprox"):
        Search({"fedprok": {"FedProx.mu": [1]}}, 2, 0, place).jobs([arm("fedprox")], ["a"])
    with pytest.raises(ConfigError, match=r"must name plugins that fedprox has, got MixStyle\.p"):
        Search({"fedprox": {"MixStyle.p": [1]}}, 2, 0, place).jobs([arm("fedprox")], ["a"])


# --- the whole -------------------------------------------------------------------------------------------------------


def test_a_benchmark_with_a_search_compares_the_tuned_arm_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One held-out site, two trials: one further training that is not scored, then the tuned arm."""
    file = spaces(place, "mixstyle: { MixStyle.p: [0.75], MixStyle.alpha: { uniform: [0.1, 0.9] } }")
    command = shlex.split(
        "benchmark -c configs/quickstart.yaml --references fedavg --algorithms mixstyle --seeds 1 --output out "
        f"--held_out site2 --search {file} --trials 2 {SMALL}"
    )
    assert main([*command, "--dry-run"]) == 0
    assert "search: 1 trials, then 1 jobs" in capsys.readouterr().out
    assert main(command) == 0
    trial = records(place / "out/search")["mixstyle@1/site2/seed0"]
    own = records(place / "out")
    assert set(own) == {"fedavg/site2/seed0", "mixstyle/site2/seed0", "mixstyle@tuned/site2/seed0"}
    assert not (place / "out/search/results/mixstyle@1/site2/seed0/cases.csv").exists()
    assert not list((place / "out/search/runs/mixstyle@1/site2/seed0").glob("*_cases*.csv"))
    best = max((own["mixstyle/site2/seed0"], trial), key=validation_dice)  # the first of equal ones, as promised
    settings = own["mixstyle@tuned/site2/seed0"]["settings"]
    assert {name: value for name, value in settings.items() if "plugins" in name} == {
        name: value for name, value in best["settings"].items() if "plugins" in name
    }
    assert set(load([place / "out"]).arms) == {"fedavg", "mixstyle", "mixstyle@tuned"}
    capsys.readouterr()
    assert main(command) == 0  # nothing is done again
    assert "to go" not in capsys.readouterr().out
