"""What the page says before a run is what the run's record counts afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fedlight_algorithms import CCST, ELCFS, AmplitudeMix, CrossMixStyle, FedBN, HarmoFL, Quantise, Scaffold, TopK

from fedlight.document import Page
from fedlight.federation import Federation
from fedlight.privacy.example_level import ExampleLevel
from fedlight.secure_aggregation import SecureAggregation
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]

SEVERAL: dict[str, dict[str, Any]] = {
    "plain": {},
    "bank": {"plugins": [CrossMixStyle(min_images=2)]},
    "frozen reference": {"plugins": [HarmoFL(min_images=2, window=0.2)]},
    "controls": {"aggregator": Scaffold()},
    "uplink": {"uplink": [TopK(0.1), Quantise()], "plugins": [AmplitudeMix(min_images=2, window=0.2)]},
    "downlink": {"downlink": [Quantise()], "error_feedback": False, "evaluate_every": 2, "rounds": 5},
    "some score": {"evaluate_sites": 2, "downlink": [Quantise()], "evaluate_every": 2, "rounds": 4},
}


def page_of(federation: Federation, **data: Any) -> Page:
    return federation.privacy(small_task(), small_sites(**data))


def said(page: Page) -> str:
    return " ".join([*page.said, *(sentence for section in page.sections for sentence in section.said)])


@pytest.mark.parametrize("name", SEVERAL)
def test_bytes_are_those_that_the_run_counts(name: str, federate: Federate) -> None:
    facts = page_of(federate(**SEVERAL[name])).facts
    folder = federate(**SEVERAL[name]).fit(small_task(), small_sites())
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    for direction in ("up", "down"):
        counted: dict[str, int] = {}
        for row in rows:
            if row["kind"] == "fit":
                counted[row["site"]] = counted.get(row["site"], 0) + row[f"bytes_{direction}"]
        assert facts["bytes_of_run"][direction] == counted
    evaluated = sum(row.get("bytes_evaluate", 0) for row in rows if row["kind"] == "round")
    assert sum(facts["bytes_of_run"]["evaluate"].values()) == evaluated
    assert facts["bytes_of_run"]["how"] == "exact"


def test_nothing_is_written_and_no_training_image_is_changed(federate: Federate) -> None:
    federation = federate()
    page_of(federation)
    assert not federation.run_folder.exists()


def test_protections_are_said_and_nobody_is_charged_for_the_rehearsal(federate: Federate) -> None:
    federation = federate(example_privacy=ExampleLevel(epsilon=8.0), secure_aggregation=SecureAggregation())
    page = federation.privacy(small_task(batch_dice=False), small_sites())
    assert set(page.facts["protections"]) == {"example_privacy", "secure_aggregation"}
    assert "masked in the sum" in json.dumps(page.facts)
    assert "train_loss" not in said(page)  # no loss leaves a site under example-level privacy
    assert not federation.run_folder.exists()


def test_what_a_plugin_keeps_private_is_said_to_stay(federate: Federate) -> None:
    """FedBN keeps scale and shift of every norm: those are in no update."""
    facts = page_of(federate(plugins=[FedBN()])).facts
    sent = {leaf["name"] for leaf in facts["tensors"]}
    assert facts["stays"]["parameters"]
    assert not sent & set(facts["stays"]["parameters"])


def test_a_site_with_too_few_images_is_named(federate: Federate) -> None:
    """Two steps of two images show four of them; the plugin wants five."""
    page = page_of(federate(plugins=[CrossMixStyle(min_images=5)]))
    assert {leaf["part"] for leaf in page.facts["tensors"]} == {"parameters"}
    page = page_of(federate(plugins=[CrossMixStyle(min_images=4)], local_steps=4), cases=[6, 6, 9, 6])
    assert "site1 sees too few images in a round (min_images) for shared/CrossMixStyle" not in said(page)


def test_a_reference_that_is_measured_once_leaves_in_the_first_round_only(federate: Federate) -> None:
    facts = page_of(federate(plugins=[HarmoFL(min_images=2, window=0.2)])).facts
    assert {leaf["part"]: leaf["rounds"] for leaf in facts["tensors"]} == {
        "parameters": "every",
        "shared/HarmoFL": "1 only",
    }


# --- more than statistics of whole sites -----------------------------------------------------------------------------


def test_the_defaults_of_a_bank_are_statistics_of_a_site(federate: Federate) -> None:
    assert page_of(federate(plugins=[AmplitudeMix(window=0.1)], share_cases=False)).facts["beyond_site_level"] == []


@pytest.mark.filterwarnings("ignore:.*single patients")
@pytest.mark.parametrize(
    ("plugin", "clause"),
    [
        (ELCFS(per_image=True), "amplitudes of 16 single images (ELCFS)"),
        (CCST(variant="single", bank_size=4), "means and spreads of 4 single images (CCST)"),
        (AmplitudeMix(window=0.3), "amplitudes up to 0.3 of the shorter side (window), more than the lowest 0.1"),
        (CrossMixStyle(min_images=1), "the style of a single image"),
    ],
)
def test_what_goes_beyond_them_is_said(plugin: Any, clause: str, federate: Federate) -> None:
    facts = page_of(federate(plugins=[plugin], share_cases=False)).facts
    assert any(each.startswith(clause) for each in facts["beyond_site_level"])


def test_a_run_that_shares_more_says_so_when_it_starts(federate: Federate, capsys: pytest.CaptureFixture[str]) -> None:
    for share_cases in (True, False):
        federate(console=True, share_cases=share_cases, rounds=1).fit(small_task(), small_sites())
        shown = capsys.readouterr().out
        assert ("more than statistics of whole sites: names and scores of single cases" in shown) == share_cases


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_list_every_tensor(federate: Federate, tmp_path: Path) -> None:
    federation = federate(plugins=[CrossMixStyle(min_images=2)])
    names = {leaf["name"] for leaf in page_of(federation).facts["tensors"]}
    for ending in ("html", "md", "json"):
        federation.privacy(small_task(), small_sites(), output=str(tmp_path / f"page.{ending}"))
        text = (tmp_path / f"page.{ending}").read_text()
        assert all(name in text for name in names)
        assert "http" not in text


def test_another_ending_is_refused(federate: Federate) -> None:
    with pytest.raises(ValueError, match=r"output must end in \.md, \.html, \.json, got page\.pdf\. Use page\.html\."):
        federate().privacy(small_task(), small_sites(), output="page.pdf")
