"""Arms, jobs, their commands and what makes two jobs the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlight.benchmark.plan import Arm, Job, Protocol, arms, jobs, shard
from fedlight.preparation import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("fedavg", "bigaug", "pooled"):
        (tmp_path / f"{name}.yaml").write_text(f"federation: {{run_folder: {name}}}  # a comment\n")
    return tmp_path


def test_arms_are_files_and_combinations_of_files(folder: Path) -> None:
    found = arms(["fedavg", "pooled+bigaug", "fedavg"], [folder])
    assert found == [
        Arm("fedavg", (folder / "fedavg.yaml",)),
        Arm("pooled+bigaug", (folder / "pooled.yaml", folder / "bigaug.yaml")),
    ]


def test_a_file_of_ones_own_is_an_arm(folder: Path) -> None:
    assert arms([str(folder / "bigaug.yaml")], []) == [Arm("bigaug", (folder / "bigaug.yaml",))]


@pytest.mark.parametrize("name", ["fedavgg", "fedavg+", "+"])
def test_an_unknown_arm_is_answered_with_the_known_ones(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="algorithms must be files in"):
        arms([name], [folder])


def test_jobs_grow_seed_by_seed(folder: Path) -> None:
    """Two arms, three sites, two seeds: twelve; with pairs of sites, three more places: 24."""
    both = arms(["fedavg", "bigaug"], [folder])
    single, nested = (jobs(both, ["a", "b", "c"], range(2), nested) for nested in (None, "also"))
    assert [job.seed for job in single] == [0] * 6 + [1] * 6
    assert (len(single), len(nested)) == (12, 24)
    assert {job.held_out for job in nested} == {("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")}
    assert len({job.name for job in nested}) == 24
    assert jobs(both, ["a", "b", "c"], range(2), "only") == [job for job in nested if len(job.held_out) == 2]


def test_shards_part_the_jobs(folder: Path) -> None:
    planned = jobs(arms(["fedavg"], [folder]), ["a", "b", "c"], range(3))
    parts = [shard(planned, f"{part}/4") for part in (1, 2, 3, 4)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in planned)
    assert shard(planned, "1/1") == planned


@pytest.mark.parametrize("part", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_an_impossible_shard_is_refused(part: str) -> None:
    with pytest.raises(ConfigError, match="--shard must be i/n"):
        shard([], part)


def test_a_job_trains_and_scores_both_models(folder: Path) -> None:
    job = Job(Arm("bigaug", (folder / "bigaug.yaml",)), ("a", "b"), 3)
    fit, best, last = Protocol((Path("data.yaml"),), ("--data.root", "x"), threads=2).commands(job, Path("runs/j"))
    assert fit == [
        *("fedlight", "fit", "-c", "data.yaml", "-c", str(folder / "bigaug.yaml"), "--data.root", "x"),
        *("--data.held_out", "[a,b]", "--seed_everything", "3", "--federation.threads", "2"),
        *("--federation.run_folder", "runs/j", "--ckpt_path", "last"),
    ]
    assert best == ["fedlight", "test", "--run", "runs/j"]
    assert last == [*best, "--which", "last"]


def test_what_is_computed_makes_the_fingerprint_and_where_does_not(folder: Path) -> None:
    base = folder / "fedavg.yaml"
    job = Job(Arm("bigaug", (folder / "bigaug.yaml",)), ("a",), 0)
    mark = Protocol((base,)).fingerprint(job)
    assert Protocol((base,), ("--data.root", "elsewhere"), threads=4).fingerprint(job) == mark
    others = [
        Protocol((base,), ("--federation.rounds", "3")).fingerprint(job),
        Protocol((folder / "pooled.yaml",)).fingerprint(job),
        Protocol((base,)).fingerprint(Job(job.arm, ("b",), 0)),
        Protocol((base,)).fingerprint(Job(job.arm, ("a",), 1)),
    ]
    assert len({mark, *others}) == 5


def test_settings_are_those_of_the_last_who_says(folder: Path) -> None:
    job = Job(Arm("bigaug", (folder / "bigaug.yaml",)), ("a",), 0)
    plain = Protocol((folder / "fedavg.yaml",))
    given = Protocol((folder / "fedavg.yaml",), ("--federation.run_folder", "mine"))
    assert plain.setting(job, "federation.run_folder", "none") == "bigaug"
    assert given.setting(job, "federation.run_folder", "none") == "mine"
    assert plain.setting(job, "federation.rounds", 10) == 10
