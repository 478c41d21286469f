"""What the records say: jobs, sites, costs, differing settings, commands, versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedlight.benchmark import scores
from fedlight.benchmark.report import facts
from fedlight.benchmark.report.findings import Findings


def test_jobs_are_counted_without_the_annotator_and_nested_ones_apart(findings: Findings) -> None:
    """Six arms, three sites, two seeds: 36, one failed and one missing; two arms, three pairs, two seeds: 12 nested."""
    done = facts.done(findings.scores)
    assert (done.planned, done.done, done.failed, done.missing, done.nested) == (36, 34, 1, 1, 12)


def test_sites_have_their_cases(findings: Findings) -> None:
    frame = facts.sites(findings.scores, "fedavg")
    assert frame.values.tolist() == [["chase", 6, 6], ["drive", 6, 6], ["hrf", 6, 6]]


def test_pooled_data_are_no_site(study: Path) -> None:
    results = scores.load(study)
    for record in results.records:
        if record["arm"] == "pooled":
            record["num_samples"] = {"pooled": 12}
    assert "pooled" not in list(facts.sites(results, "fedavg")["site"])


def test_the_reference_costs_once_the_reference(findings: Findings) -> None:
    """Jobs take 100 + seed seconds of processor time, so the median over seeds 0 and 1 is 100.5."""
    frame = facts.costs(findings.scores, "fedavg").set_index("arm")
    assert frame.loc["fedavg", "times"] == 1
    assert frame.loc["fedavg", "processor_seconds"] == pytest.approx(100.5)
    assert "human" not in frame.index


def test_only_settings_unlike_the_references_are_listed(study: Path) -> None:
    results = scores.load(study)
    for record in results.records:
        record["settings"] = {"rounds": 4, "held_out": record["held_out"], "plugins": record["arm"]}
    differing = dict(facts.differing_settings(results, "fedavg"))
    assert differing["mixstyle"] == ["plugins: mixstyle"]
    assert "fedavg" not in differing


def test_commands_are_grouped_by_arm_and_stand_once(findings: Findings) -> None:
    lines = facts.commands(findings.scores)["fedavg"].splitlines()
    assert len(lines) == len(set(lines)) == 6


def test_jobs_of_another_version_are_noticed(study: Path) -> None:
    results = scores.load(study)
    changed = ({**results.records[0], "commit": "fedcba9"}, *results.records[1:])
    environments = facts.environments(replace(results, records=changed))
    assert [text.split(", ")[1] for text, _ in environments] == ["commit 0123456", "commit fedcba9"]
    assert environments[1][1] == "1 job"
