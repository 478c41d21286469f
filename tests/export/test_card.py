"""A card says what the files of a run say: the same numbers, the same sites, unknown where they are silent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fedlight_algorithms import DPFedAvg, FedAvg, MixStyle

from fedlight.checkpoint import RunFolder
from fedlight.document import Section
from fedlight.export.card import card
from fedlight.export.ledger import NO_PROTECTION, ledger
from fedlight.export.protocol import selection
from fedlight.export.record import Record
from fedlight.federation import Federation
from fedlight.privacy.example_level import ExampleLevel
from tests.export.models import exportable, folders

NOTHING = Section("Privacy")


def score(site: str, dice: float, **where: Any) -> dict[str, Any]:
    return {"round": 4, "site": site, "cases": 7, "dice": dice, "iou": None, "miss": 0.0, **where}


def record(**changes: Any) -> Record:
    """Two sites, one of which has a model of its own, and a third that took no part; round 4 of 6 was selected."""
    rows = [
        {"round": 4, "kind": "fit", "site": "leeds", "samples": 3, "bytes_up": 30, "bytes_up/parameters": 30},
        {"round": 4, "kind": "fit", "site": "osaka", "samples": 5, "bytes_up": 30, "bytes_up/parameters": 30},
        score("leeds", 0.25, kind="val"),
        score("osaka", 0.5, kind="val"),
        {"round": 4, "kind": "round", "mean_dice": 0.375, "selected": True, "seconds_round": 2.0},
        score("leeds", 0.125, kind="test", split="test", model="global"),
        score("osaka", 0.875, kind="test", split="test", model="global"),
        score("berlin", 0.0625, kind="test", split="held-out", model="global"),
        score("berlin", 0.9375, kind="test", split="held-out", model="leeds"),
        score("berlin", 0.4375, kind="test", split="held-out", model="global") | {"round": 6},
    ]
    facts = {"sites": ["leeds", "osaka"], "num_samples": {"leeds": 3, "osaka": 5}, "rounds": 6, "status": "finished"}
    config = {"seed_everything": 11, "federation": {"select": "best"}, "data": {"init_args": {"root": "/secret/root"}}}
    versions = {"fedlight": "0.9.9", "lightning": "2.6.6"}
    known = Record(config, facts, rows, versions, ["berlin"], 4, "selected", None)
    return replace(known, **changes)


def about() -> Any:
    return exportable(folders(classes=("background", "vessel"), patch_size=16)).about


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_numbers_are_those_of_the_models_own_round_and_held_out_apart_from_in_federation() -> None:
    text = card(record(), about(), NOTHING, "Open it.")
    unseen = section(text, "Evaluation at institutions that took no part (held-out)")
    assert re.findall(r"0\.\d{4}", unseen) == ["0.0625"]
    seen = section(text, "Evaluation in the federation (test cases of sites that trained)")
    assert "| leeds | 7 | 0.1250 |" in seen
    assert "| mean |  | 0.5000 |" in seen
    assert "berlin" not in seen
    assert "| osaka | trained | 5 | 7 | 7 |" in section(text, "Training Data")
    assert "| berlin | took no part | 0 | 0 | 7 |" in section(text, "Training Data")


def test_programs_read_the_same_numbers_and_the_licence_is_left_to_the_owner() -> None:
    known = yaml.safe_load(card(record(), about(), NOTHING, "").split("---\n")[1])
    index = {(one["dataset"]["name"], one["metrics"][0]["value"]) for one in known["model-index"][0]["results"]}
    assert index == {("berlin (held-out)", 0.0625), ("leeds (test)", 0.125), ("osaka (test)", 0.875)}
    assert (known["license"], known["license_name"]) == ("other", "to-be-chosen-by-the-owner")


def test_a_sites_own_model_has_the_scores_of_that_model() -> None:
    """Under its own name elsewhere; at home under the shared model's name, where its own statistics scored it."""
    text = card(record(site="leeds"), about(), NOTHING, "")
    assert "0.9375" in section(text, "Evaluation at institutions that took no part (held-out)")
    assert re.findall(
        r"^\| leeds .*", section(text, "Evaluation in the federation (test cases of sites that trained)"), re.M
    )
    assert "0.8750" not in text


def test_what_was_not_scored_is_unknown_and_no_path_is_told() -> None:
    known = record()
    silent = replace(known, rows=[row for row in known.rows if row["kind"] == "fit"], facts={})
    text = card(silent, about(), NOTHING, "")
    assert text.count("unknown. This model was not scored there.") == 3
    assert "How it does at an institution that took no part is unknown." in text
    assert "| method | unknown |" in text
    assert "| leeds | trained | unknown | unknown | unknown |" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "the round with the highest mean validation Dice over the sites that train"),
        ({"which": "last"}, "The model is that of the last round, 4 (mean validation Dice 0.3750); no score chose it."),
        ({"config": {}}, "chosen by a rule that is unknown."),
        ({"rows": []}, "The model is that of round 4, the newest; its validation scores are unknown."),
    ],
)
def test_the_rule_of_selection_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in selection(record(**changes))


# --- privacy ---------------------------------------------------------------------------------------------------------


Federate = Callable[..., Federation]


def said(federation: Federation, known: Record, folder: Path, *plugins: Any) -> tuple[str, Any]:
    for plugin in plugins:
        plugin.instance_id = type(plugin).__name__
    made = ledger(federation, plugins, known, RunFolder(folder))
    assert made.table is not None
    return " ".join(made.said), made.table.rows


def test_the_ledger_adds_up_what_left_the_sites(federate: Federate, tmp_path: Path) -> None:
    """30 bytes of each of two sites."""
    text, rows = said(federate(), record(), tmp_path, FedAvg(), MixStyle())
    assert rows == (("parameters", "none", "60"),)
    assert NO_PROTECTION in text
    assert "names and scores of single cases (share_cases)" in text


def test_epsilon_is_what_the_sites_own_ledgers_say(federate: Federate, tmp_path: Path) -> None:
    """A site's file knows of rounds that the record does not; without it, what the site reported counts."""
    from fedlight.privacy.accounting import Charge, Ledger, epsilon

    (tmp_path / "sites" / "leeds").mkdir(parents=True)
    Ledger(tmp_path / "sites" / "leeds" / "privacy.json").add(Charge(1.0, 0.1, 50))
    known = record()
    rows = [row | {"epsilon": 1.25} if row["kind"] == "fit" else row for row in known.rows]
    text, sent = said(federate(example_privacy=ExampleLevel(delta=1e-4)), replace(known, rows=rows), tmp_path, FedAvg())
    spent = epsilon([Charge(1.0, 0.1, 50)], 1e-4, "rdp")
    assert f"Epsilon spent by leeds for its patients: {spent:.2f} at delta 0.0001" in text
    assert "Epsilon spent by osaka for its patients: 1.25 at delta 0.0001" in text
    assert NO_PROTECTION not in text
    assert sent == (("parameters", "clipped and noised", "60"),)


def test_epsilon_of_whole_sites_is_the_last_of_the_record(federate: Federate, tmp_path: Path) -> None:
    known = record()
    rows = [*known.rows, {"round": 5, "kind": "round", "epsilon": 3.5}, {"round": 6, "kind": "round", "epsilon": 4.5}]
    text, _ = said(federate(), replace(known, rows=rows), tmp_path, DPFedAvg(delta=1e-3))
    assert "Epsilon spent for whole sites: 4.50 at delta 0.001, in all rounds." in text
    assert NO_PROTECTION not in text
