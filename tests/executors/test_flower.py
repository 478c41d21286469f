"""Training at the nodes of a Flower federation: the same bits as in one process, and what becomes of every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from fedlight.checkpoint import RunFolder
from fedlight.cli import run
from fedlight.parcel import block_of, wrap
from fedlight.state import digest
from fedlight.update import Evaluation, SiteFailure
from fedlight.wire import encode
from tests.deploy.consortium import (
    HELD_OUT,
    TRAINING,
    Institution,
    change,
    connected,
    fit,
    run_folder,
    write_config,
    write_data,
    write_kit,
)

pytestmark = pytest.mark.slow

Make = Callable[..., tuple[Path, Path]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes data, a config and a kit; returns config and kit."""

    def make(name: str = "kit", executor: dict[str, Any] | None = None, **federation: Any) -> tuple[Path, Path]:
        write_data(tmp_path / "data")
        config = write_config(tmp_path / "run.yaml", tmp_path / "data", **federation)
        return config, write_kit(tmp_path / name, config, **(executor or {}))

    return make


def in_process(config: Path, *settings: str) -> RunFolder:
    folder = config.parent / "reference"
    assert run(["fit", "-c", str(config), "--federation.run_folder", str(folder), *settings]) == 0
    return RunFolder(folder)


def bits(folder: RunFolder) -> tuple[int, str]:
    saved = folder.load()
    assert saved is not None
    return saved["server"]["round"], digest({**saved["server"]["params"], **saved["server"]["buffers"]})


def rows(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.parametrize(
    "federation",
    [
        {"plugins": ["MixStyle"], "aggregator": "Scaffold"},
        {"plugins": [{"class_path": "FedPer"}], "optimizer_state": "keep", "cohort": 0.67, "rounds": 3},
        {"downlink": [{"class_path": "Quantise"}], "cohort": 0.34, "rounds": 4, "evaluate_every": 2},
        {
            "secure_aggregation": {"class_path": "SecureAggregation"},
            "aggregator": "Scaffold",
            "optimizer_state": "keep",
        },
    ],
    ids=["shared", "personal", "downlink", "secure"],
)
def test_nodes_and_one_process_agree_bit_for_bit(make: Make, federation: dict[str, Any]) -> None:
    config, kit = make(**federation)
    reference = in_process(config)
    with connected(kit):
        assert fit(kit) == 0
        assert bits(run_folder(kit)) == bits(reference)
        assert run(["test", "--run", str(run_folder(kit).path)]) == 0
    assert run(["test", "--run", str(reference.path)]) == 0
    for split in ("val", "test"):
        found, expected = (
            [(row["site"], row["dice"]) for row in rows(folder, split) if row["site"] in TRAINING]
            for folder in (run_folder(kit), reference)
        )
        assert found == expected
        assert found


def test_the_institution_that_takes_no_part_is_scored_at_its_own_node(make: Make) -> None:
    config, kit = make()
    reference = in_process(config)
    assert run(["test", "--run", str(reference.path)]) == 0
    with connected(kit) as wires:
        assert fit(kit) == 0
        assert {sent.site for sent in wires.crossed} == set(TRAINING)
        assert run(["test", "--run", str(run_folder(kit).path)]) == 0
    (found,), (expected,) = (
        [row["dice"] for row in rows(folder, "test") if row["site"] == HELD_OUT]
        for folder in (run_folder(kit), reference)
    )
    assert found == expected


def test_predict_refuses_a_model_of_which_something_stayed_at_the_sites(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    config, kit = make(rounds=1, plugins=["FedPer"])
    with connected(kit):
        assert fit(kit) == 0
    images = config.parent / "data" / HELD_OUT / "images"
    arguments = ["--input", str(images), "--output", str(config.parent / "masks")]
    assert run(["predict", "--run", str(run_folder(kit).path), *arguments]) == 2
    assert "got a run in which parameters do" in capsys.readouterr().err
    assert not (config.parent / "masks").exists()


def test_without_a_node_of_its_own_the_institution_is_skipped_with_a_sentence(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    _, kit = make()
    with connected(kit) as wires:
        assert fit(kit) == 0
        wires.absent.add(HELD_OUT)
        assert run(["test", "--run", str(run_folder(kit).path)]) == 0
    assert "lima is not scored: no node of this name is connected" in caplog.text


def test_a_node_that_lost_its_part_in_the_sum_ends_a_round_of_three_before_anything_is_revealed(make: Make) -> None:
    """Its process is started anew after training: it has no masks any more, two sites are left, three are needed."""
    _, kit = make(secure_aggregation={"class_path": "SecureAggregation"})
    node = Institution(kit / "sites" / "leeds")

    def restarted(fields: dict[str, Any], block: bytes) -> RecordDict:
        if fields["phase"] == "masked":
            node.restart()
        return node(fields, block)

    with connected(kit, leeds=restarted) as wires:
        assert fit(kit) == 1
    assert {sent.fields["phase"] for sent in wires.crossed} == {"hello", "fit", "shares", "masked"}
    (failure,) = rows(run_folder(kit), "failure")
    assert failure["site"] == "leeds"
    assert "takes no part in the sum of round 1" in failure["reason"]
    assert not list((kit / "sites" / "leeds").rglob("00001.safetensors"))


# --- what leaves a site ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [False, True])
def test_names_of_cases_and_paths_leave_a_site_only_if_its_own_config_allows_it(make: Make, allowed: bool) -> None:
    """The server's config asks for scores of cases; berlin alone decides whether it gives them."""
    _, kit = make(share_cases=True)
    change(kit / "sites" / "berlin" / "site.yaml", share_cases=allowed)
    with connected(kit) as wires:
        assert fit(kit) == 0
        assert run(["test", "--run", str(run_folder(kit).path)]) == 0
    everything = b"".join(wires.payloads)
    assert (b"patient-berlin" in everything) == allowed
    assert b"patient-leeds" not in everything
    assert str(kit.parent).encode() not in everything


def test_what_an_exception_says_stays_at_the_site(make: Make) -> None:
    """An image that vanishes is named in the exception; the server learns the kind of error alone."""
    _, kit = make(executor={"wait": 5.0})
    node = Institution(kit / "sites" / "leeds")

    def broken(fields: dict[str, Any], block: bytes) -> RecordDict:
        if fields["phase"] == "fit":
            raise_at_work(node)
        return node(fields, block)

    with connected(kit, leeds=broken):
        assert fit(kit) == 0
    failures = rows(run_folder(kit), "failure")
    assert {failure["reason"] for failure in failures if failure["phase"] == "fit"} == {
        "ValueError; errors.log at the site says more"
    }
    (log,) = (kit / "sites" / "leeds").rglob("errors.log")
    assert "patient Smith" in log.read_text()


def raise_at_work(node: Institution) -> None:
    """Makes the next work of a node fail with a name in what it says."""

    def fail(*arguments: Any, **more: Any) -> Any:
        raise ValueError("patient Smith cannot be read")

    node._current()._data.train_loader = fail  # type: ignore[method-assign]


# --- faults ----------------------------------------------------------------------------------------------------------


def crash(fields: dict[str, Any], block: bytes) -> RecordDict:
    raise RuntimeError("ClientApp stopped responding.")


def failing(site: str, kind: str) -> Callable[[dict[str, Any], bytes], RecordDict]:
    return lambda fields, block: wrap({}, block_of(encode(SiteFailure(site, 0, "fit", kind, "why"))))


def other_site(fields: dict[str, Any], block: bytes) -> RecordDict:
    return wrap({}, block_of(encode((Evaluation("osaka", 1, 1, {"dice": 1.0}),))))


FAULTS: list[tuple[str, Any, str, str]] = [
    ("fit", crash, "lost", "Flower says: ClientApp stopped responding."),
    ("fit", failing("leeds", "raised"), "raised", "why"),
    ("fit", failing("osaka", "late"), "late", "why"),
    ("fit", failing("leeds", "\x1b[31mred"), "raised", "why"),
    ("fit", other_site, "refused", "answer refused: expected an update, got something else"),
    ("evaluate", other_site, "refused", "answer refused: expected evaluations of leeds, got something else"),
    ("fit", lambda fields, block: wrap({}, block_of(b"\0" * 99)), "refused", "answer refused: its header"),
    ("fit", lambda fields, block: wrap({}), "refused", "answer refused: it is cut off"),
    ("fit", lambda fields, block: RecordDict(), "refused", "answer refused: the message holds no parcel"),
    ("fit", lambda fields, block: None, "late", "no answer within 0.3 s"),
]


def test_every_fault_has_a_kind_and_the_run_goes_on(make: Make) -> None:
    """In every round leeds has another fault."""
    _, kit = make(rounds=len(FAULTS), local_steps=1, executor={"deadline": 0.3, "transport": 0.1})
    node = Institution(kit / "sites" / "leeds")
    fits: list[None] = []

    def faulty(fields: dict[str, Any], block: bytes) -> Any:
        fits.extend([None] if fields["phase"] == "fit" else [])
        phase, broken, *_ = FAULTS[max(len(fits), 1) - 1]
        return (broken if fields["phase"] == phase else node)(fields, block)

    with connected(kit, leeds=faulty):
        assert fit(kit) == 0
    found = rows(run_folder(kit), "failure")
    assert [(row["site"], row["round"], row["phase"], row["cause"]) for row in found] == [
        ("leeds", number, phase, kind) for number, (phase, _, kind, _) in enumerate(FAULTS, start=1)
    ]
    for row, (*_, reason) in zip(found, FAULTS, strict=True):
        assert row["reason"].startswith(reason)
    trained = [row["site"] for row in rows(run_folder(kit), "fit")]
    assert trained.count("osaka") == len(FAULTS)
    assert trained.count("leeds") == 1


def test_a_node_that_goes_away_is_lost_long_before_the_deadline(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlight.executors.flower._LOOK", 0.0)
    _, kit = make(rounds=1, min_sites=2)
    node = Institution(kit / "sites" / "leeds")
    with connected(kit) as wires:

        def vanish(fields: dict[str, Any], block: bytes) -> RecordDict | None:
            if fields["phase"] != "hello":
                wires.absent.add("leeds")
                return None
            return node(fields, block)

        wires.nodes["leeds"] = vanish
        assert fit(kit) == 0
    fits, evaluations = rows(run_folder(kit), "failure")
    assert (fits["cause"], fits["reason"]) == ("lost", "the connection to its node ended")
    assert (evaluations["cause"], evaluations["reason"]) == ("lost", "no node of this name is connected")


def test_with_too_few_sites_the_run_fails(make: Make) -> None:
    _, kit = make(min_sites=3)
    node = Institution(kit / "sites" / "leeds")
    with connected(kit, leeds=lambda fields, block: (node if fields["phase"] == "hello" else crash)(fields, block)):
        assert fit(kit) == 1


def test_an_answer_that_came_too_late_leaves_no_trace(make: Make, tmp_path: Path) -> None:
    """The site trains in round 2 and keeps what it learned, but the server has gone on.

    In round 3 it starts from its round 1, as if it had not been asked in round 2; its momentum would show otherwise.
    """
    found = []
    for number, works in enumerate((True, False)):
        _, kit = make(name=f"kit{number}", optimizer_state="keep", rounds=4, executor={"deadline": 0.3, "transport": 0})
        node = Institution(kit / "sites" / "leeds")
        rounds: list[None] = []

        def late(
            fields: dict[str, Any], block: bytes, node: Any = node, rounds: list[None] = rounds, works: bool = works
        ) -> Any:
            rounds.extend([None] if fields["phase"] == "fit" else [])
            missed = fields["phase"] == "fit" and len(rounds) == 2
            reply = node(fields, block) if works or not missed else None
            return None if missed else reply

        with connected(kit, leeds=late):
            assert fit(kit) == 0
        assert [row["cause"] for row in rows(run_folder(kit), "failure")] == ["late"]
        found.append(bits(run_folder(kit)))
    assert found[0] == found[1]


@pytest.mark.parametrize("restarted", [False, True], ids=["warm", "restarted"])
def test_a_server_that_was_killed_goes_on_with_the_sites_as_of_the_right_round(make: Make, restarted: bool) -> None:
    """It dies in round 2 when two of three sites have trained: they train round 2 again, from their round 1."""
    config, kit = make(plugins=["FedPer"], optimizer_state="keep", rounds=3)
    reference = in_process(config)
    nodes = {site: Institution(kit / "sites" / site) for site in TRAINING}
    killed: list[bool] = []

    def kill(fields: dict[str, Any], block: bytes) -> RecordDict:
        if fields["phase"] == "fit" and fields["base"] == 1 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        return nodes["osaka"](fields, block)

    with connected(kit, berlin=nodes["berlin"], leeds=nodes["leeds"], osaka=kill):
        assert fit(kit) == 130
        for node in nodes.values() if restarted else ():
            node.restart()
        assert fit(kit) == 0
    assert bits(run_folder(kit)) == bits(reference)


# --- by the real clock -----------------------------------------------------------------------------------------------


class Lasting:
    """A node that says that it is at work, as often as it was told to, before it answers."""

    def __init__(self, node: Institution, times: int) -> None:
        self.node, self.times, self.phases = node, times, list[str]()

    def __call__(self, fields: dict[str, Any], block: bytes) -> RecordDict:
        self.phases.append(fields["phase"])
        if fields["phase"] == "fit":
            self.held, self.left = self.node(fields, block), self.times
        elif fields["phase"] == "stop":
            return wrap({})
        elif fields["phase"] != "wait":
            return self.node(fields, block)
        self.left -= 1
        return self.held if self.left < 0 else wrap({"at_work": True})


def test_by_the_real_clock_a_run_is_repeated_from_its_record_also_if_its_server_was_killed(
    make: Make, tmp_path: Path
) -> None:
    """Leeds answers when it was asked a fourth time; the server dies in version 2 while leeds is at work."""
    settings: dict[str, Any] = {"plugins": ["FedPer"], "optimizer_state": "keep", "rounds": 4, "evaluate_every": 4}
    buffered = {"class_path": "Buffered", "init_args": {"buffer": 1, "clock": "real"}}
    _, kit = make(**settings, schedule=buffered)
    nodes = {site: Institution(kit / "sites" / site) for site in TRAINING}
    leeds, killed = Lasting(nodes["leeds"], times=3), list[bool]()

    def kill(fields: dict[str, Any], block: bytes) -> RecordDict:
        if fields["phase"] == "fit" and fields["base"] == 1 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        return nodes["berlin"](fields, block)

    with connected(kit, berlin=kill, leeds=leeds, osaka=nodes["osaka"]):
        assert fit(kit) == 130
        assert fit(kit) == 0
    assert {"fit", "wait"} < set(leeds.phases)
    replay = {"class_path": "Replay", "init_args": {"run": str(run_folder(kit).path)}}
    again = in_process(write_config(tmp_path / "again.yaml", tmp_path / "data", **settings, schedule=replay))
    assert bits(again) == bits(run_folder(kit))


def test_a_node_that_is_not_needed_is_told_to_end_when_it_asks_and_is_free_again(make: Make) -> None:
    """Two of three count; leeds says that it is at work, is told to stop, and scores the model then."""
    deadline = {"class_path": "Deadline", "init_args": {"extra": 0.5, "clock": "real"}}
    _, kit = make(schedule=deadline, cohort=0.67)
    leeds = Lasting(Institution(kit / "sites" / "leeds"), times=10**6)
    with connected(kit, leeds=leeds):
        assert fit(kit) == 0
    asked = [phase for phase in leeds.phases if phase != "wait"]
    assert asked == ["hello", *["fit", "stop", "evaluate"] * 2]
    failures = {(row["site"], row["cause"]) for row in rows(run_folder(kit), "failure")}
    assert failures == {("leeds", "unneeded")}
    assert {row["site"] for row in rows(run_folder(kit), "val")} == set(TRAINING)


def test_a_node_that_is_gone_or_late_by_the_real_clock_is_a_failure(make: Make) -> None:
    """Leeds is not there when the first version begins; osaka does not answer within its time."""
    buffered = {"class_path": "Buffered", "init_args": {"buffer": 3, "clock": "real"}}
    executor = {"deadline": 0.3, "transport": 0.1, "lease": 0.1}
    _, kit = make(schedule=buffered, rounds=1, executor=executor)
    node = Institution(kit / "sites" / "leeds")
    with connected(kit, osaka=Lasting(Institution(kit / "sites" / "osaka"), times=10**6)) as wires:

        def leave(fields: dict[str, Any], block: bytes) -> RecordDict:
            wires.absent.add("leeds")
            return node(fields, block)

        wires.nodes["leeds"] = leave
        assert fit(kit) == 0
    found = {(row["site"], row["cause"]) for row in rows(run_folder(kit), "failure") if row["phase"] == "fit"}
    assert found == {("leeds", "lost"), ("osaka", "late")}


# --- agreement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seed_everything": 7}, "berlin: the settings of seed_everything differ from those at the server"),
        (
            {"model": {"class_path": "SegmentationTask", "init_args": {"encoder": "plain-16"}}},
            "berlin: the settings of model differ from those at the server",
        ),
    ],
)
def test_a_site_whose_settings_differ_does_not_train(
    make: Make, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], sentence: str
) -> None:
    _, kit = make()
    change(kit / "sites" / "berlin" / "run.yaml", **settings)
    with connected(kit) as wires:
        assert fit(kit) == 2
    assert sentence in capsys.readouterr().err
    assert {sent.fields["phase"] for sent in wires.crossed} == {"hello"}


def test_a_site_with_another_version_or_other_plugins_says_so_at_every_message(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kit = make()
    site = Institution(kit / "sites" / "berlin")._current()
    theirs = dict(site._agreement)
    for name, sentence in (("version", "fedlight is 9 here and"), ("plugins", "the files of the plugins differ")):
        site._agreement = {**theirs, name: "9"}
        reply = site.work({"phase": "fit", "agreement": json.dumps(theirs)}, b"")
        assert isinstance(reply, SiteFailure)
        assert (reply.kind, reply.reason.startswith(sentence)) == ("refused", True)


def test_a_missing_site_is_named(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    _, kit = make(executor={"wait": 0.5})
    with connected(kit) as wires:
        wires.absent |= {"leeds", "osaka"}
        assert fit(kit) == 2
    assert "leeds, osaka did not answer within 0.5 s." in capsys.readouterr().err


def test_a_site_that_was_there_may_be_missing_when_a_run_goes_on(make: Make) -> None:
    _, kit = make(executor={"wait": 0.5}, rounds=2)
    with connected(kit) as wires:
        assert fit(kit) == 0
        wires.absent |= {"leeds"}
        assert fit(kit, "--federation.rounds", "3") == 0
    assert [row["round"] for row in rows(run_folder(kit), "fit") if row["site"] == "leeds"] == [1, 2]
    assert [row["round"] for row in rows(run_folder(kit), "fit") if row["site"] == "osaka"] == [1, 2, 3]


def test_without_a_federation_the_executor_says_how_to_get_one(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    _, kit = make()
    assert fit(kit) == 2
    assert "executor Flower runs inside a Flower federation." in capsys.readouterr().err
