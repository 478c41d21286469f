"""What crosses with codecs: the sites' model follows the server's, nothing that codecs lose is lost for good."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedlight_algorithms import DPFedAvg, Half, LowRank, Quantise, RandomK, TopK, Zstd

from fedlight.__main__ import main
from fedlight.channel import Compression, ServerEnd, SiteEnd
from fedlight.checkpoint import RunFolder
from fedlight.executors import InProcess
from fedlight.executors.executor import Phase, Reply
from fedlight.federation import Federation
from fedlight.preparation import ConfigError, check_codecs
from fedlight.schedule import Buffered
from fedlight.serialization import pack, unpack
from fedlight.state import State, digest, num_bytes, zip_map
from fedlight.update import Broadcast, RoundContext, Sent, Update
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]
SITES = ("A", "B")
CODECS: list[list[Any]] = [[Half()], [Quantise(4)], [TopK(0.1)], [TopK(0.2), Quantise(4), Zstd()], [LowRank(1)]]


def context(round: int) -> RoundContext:
    return RoundContext(round, 9, 0, SITES, SITES, dict.fromkeys(SITES, 1), dict.fromkeys(SITES, 1.0))


def model(seed: int) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {"conv": torch.randn(8, 4, 3, 3, generator=draw), "bias": torch.randn(8, generator=draw)}


def broadcast(round: int) -> Broadcast:
    """What a server without codecs would send; its parameters are for ``message`` to replace."""
    return Broadcast(context(round), model(99), {})


def update(site: str, round: int, params: State) -> Update:
    return Update(site, round, 1, params, {})


def distance(one: State, other: State) -> float:
    return math.dist(*(torch.cat([part[name].flatten() for name in one]).tolist() for part in (one, other)))


# --- down ------------------------------------------------------------------------------------------------------------


def test_a_new_site_gets_the_whole_model_then_differences_then_nothing() -> None:
    params = model(0)
    server, site = ServerEnd(Compression(downlink=[Quantise(8)]), params), SiteEnd(Compression(downlink=[Quantise(8)]))
    first = server.messages(["A"], broadcast(1))["A"]
    assert (first.model, first.num_bytes) == ("full", 4 * (288 + 8))
    assert all(torch.equal(site.receive(first).params[name], params[name]) for name in params)
    server.answered("A", well=True)
    assert (server.messages(["A"], broadcast(1))["A"].model, server.messages(["A"], broadcast(1))["A"].num_bytes) == (
        "kept",
        0,
    )
    server.advance(model(1), seed=0)
    second = server.messages(["A"], broadcast(2))["A"]
    assert (second.model, second.num_bytes) == ("delta", 1 + 4 * 8 + 288 + 4 * 8)
    found = site.receive(second).params
    assert all(torch.equal(found[name], server.model[name]) for name in found)
    torch.testing.assert_close(found["bias"], model(1)["bias"])  # of one dimension: only the sum is rounded
    assert server.messages(["B"], broadcast(2))["B"].model == "full"


def test_a_site_that_missed_a_version_gets_the_whole_model() -> None:
    server = ServerEnd(Compression(downlink=[Quantise(8)]), model(0))
    server.answered("A", well=True)
    server.advance(model(1), 0)
    server.advance(model(2), 0)
    assert server.messages(["A"], broadcast(3))["A"].model == "full"
    server.answered("A", well=True)
    server.answered("A", well=False)  # its process died, say: it may have lost what it kept
    assert server.messages(["A"], broadcast(3))["A"].model == "full"


def test_a_difference_to_a_version_that_a_site_lacks_is_refused() -> None:
    server, site = ServerEnd(Compression(downlink=[Half()]), model(0)), SiteEnd(Compression(downlink=[Half()]))
    server.answered("A", well=True)  # though it never was sent anything
    with pytest.raises(ValueError, match="none that follows"):
        site.receive(server.messages(["A"], broadcast(1))["A"])
    server.advance(model(1), 0)
    with pytest.raises(ValueError, match="none that follows"):
        site.receive(server.messages(["A"], broadcast(1))["A"])


@pytest.mark.parametrize(
    "codecs", [[Half()], [Quantise(4)], [TopK(0.1)], [TopK(0.2), Quantise(4), Zstd()], [LowRank()]]
)
def test_the_sites_model_reaches_a_model_that_stands_still(codecs: list[Any]) -> None:
    """Every version is the difference to what the sites have, so what was lost comes with the next ones."""
    server, goal = ServerEnd(Compression(downlink=codecs), model(0)), model(1)
    apart = [distance(server.model, goal)]
    for _ in range(60):
        server.advance(goal, 0)
        apart.append(distance(server.model, goal))
    assert apart[1] < apart[0]
    assert apart[-1] < 0.02 * apart[0]


# --- up --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "codecs", [[Quantise(4, stochastic=False)], [TopK(0.1)], [LowRank(1)], [TopK(0.1), Quantise(4)]]
)
def test_what_codecs_lose_is_sent_later(codecs: list[Any]) -> None:
    """The same change in every round: with error feedback the sum of what arrives stays a bounded way behind.

    Without it a tenth of the numbers would arrive, the same in every round.
    """
    compression = Compression(uplink=codecs)
    site, server, start = SiteEnd(compression), ServerEnd(compression, model(0)), model(0)
    change = {name: 0.01 * value for name, value in model(5).items()}
    arrived = {name: torch.zeros_like(value) for name, value in change.items()}
    behind = []
    for number in range(1, 61):
        received = replace(broadcast(number), params=start)
        trained = zip_map(torch.add, start, change)
        message = site.send(update("A", number, trained), received)
        assert message.params == {}
        assert message.num_bytes == len(message.payload)
        found = server.read(message, start, 0).params
        arrived = zip_map(lambda sum, new, old: sum + new - old, arrived, found, start)
        behind.append(distance(arrived, {name: number * value for name, value in change.items()}))
    assert max(behind[30:]) < 25 * distance(change, {name: torch.zeros_like(value) for name, value in change.items()})
    assert behind[-1] < 1.5 * max(behind[20:40]) + 1e-6


def test_without_error_feedback_nothing_is_remembered() -> None:
    compression = Compression(uplink=[TopK(0.1)], error_feedback=False)
    site = SiteEnd(compression)
    received = replace(broadcast(1), params=model(0))
    payloads = {site.send(update("A", 1, model(1)), received).payload for _ in range(3)}
    assert len(payloads) == 1


def test_codecs_without_loss_carry_every_bit() -> None:
    compression = Compression(uplink=[Zstd()], downlink=[Zstd()])
    site, server = SiteEnd(compression), ServerEnd(compression, model(0))
    server.advance(model(1), 0)
    server.answered("A", well=True)
    received = site.receive(replace(server.messages(["B"], broadcast(1))["B"]))
    trained = {name: value + 1e-3 for name, value in received.params.items()}
    found = server.read(site.send(update("A", 1, trained), received), model(7), 0).params
    assert all(torch.equal(found[name], trained[name]) for name in trained)
    assert all(torch.equal(received.params[name], model(1)[name]) for name in trained)


def test_without_codecs_nothing_changes() -> None:
    site, server = SiteEnd(Compression()), ServerEnd(Compression(), model(0))
    sent, trained = broadcast(1), update("A", 1, model(1))
    server.advance(model(1), 0)
    assert server.messages(["A"], sent)["A"] is sent
    assert site.receive(sent) is sent
    assert site.send(trained, sent) is trained
    assert server.read(trained, model(0), 0) is trained
    assert site.state_dict() == server.state_dict() == {}


# --- what is not agreed on, and restarts -----------------------------------------------------------------------------


def test_an_update_that_is_written_otherwise_is_refused() -> None:
    plain, coded = ServerEnd(Compression(), model(0)), ServerEnd(Compression(uplink=[Half()]), model(0))
    written = SiteEnd(Compression(uplink=[Half()])).send(
        update("A", 1, model(1)), replace(broadcast(1), params=model(0))
    )
    with pytest.raises(ValueError, match="another way"):
        plain.read(written, model(0), 0)
    with pytest.raises(ValueError, match="another way"):
        coded.read(update("A", 1, model(1)), model(0), 0)
    with pytest.raises(ValueError, match="must have"):
        coded.read(replace(written, payload=written.payload[:-1]), model(0), 0)


def test_both_ends_go_on_after_a_restart_as_if_there_were_none() -> None:
    compression = Compression(uplink=[LowRank(1), Quantise(4)], downlink=[TopK(0.2), Quantise(8)])

    def play(rounds: range, server: ServerEnd, site: SiteEnd) -> list[bytes]:
        crossed = []
        for number in rounds:
            message = server.messages(["A"], broadcast(number))["A"]
            received = site.receive(message)
            trained = zip_map(torch.add, received.params, {n: 0.1 * v for n, v in model(number).items()})
            written = site.send(update("A", number, trained), received)
            server.answered("A", well=True)
            server.advance(server.read(written, received.params, 0).params, 0)
            crossed += [message.payload, written.payload]
        return crossed

    through = play(range(1, 7), ServerEnd(compression, model(0)), SiteEnd(compression))
    server, site = ServerEnd(compression, model(0)), SiteEnd(compression)
    crossed = play(range(1, 4), server, site)
    kept = unpack(pack({"server": server.state_dict(), "site": site.state_dict()}))
    server, site = ServerEnd(compression, model(0)), SiteEnd(compression)
    server.load_state_dict(copy.deepcopy(kept["server"]))
    site.load_state_dict(kept["site"])
    assert crossed + play(range(4, 7), server, site) == through


def test_bytes_are_counted_by_part() -> None:
    message = replace(update("A", 1, model(0)), shared={"Style": {"mean": torch.zeros(4)}})
    assert message.bytes_by_part == {"parameters": 4 * 296, "shared/Style": 16}
    assert message.num_bytes == 4 * 296 + 16


# --- runs ------------------------------------------------------------------------------------------------------------


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for line in lines if (row := json.loads(line))["kind"] == kind]


def bits(folder: RunFolder) -> str:
    return digest(torch.load(folder.last, weights_only=True)["state_dict"])


SMALL: dict[str, Any] = {
    "uplink": [TopK(0.05), Quantise(8), Zstd()],
    "downlink": [TopK(0.05), Quantise(8), Zstd()],
    "rounds": 4,
    "evaluate_every": 2,
}


def test_codecs_without_loss_train_what_none_train(federate: Federate) -> None:
    plain = federate(rounds=3).fit(small_task(), small_sites())
    settings = {"uplink": [Zstd()], "downlink": [Zstd()], "run_folder": f"{plain.path}-z"}
    assert bits(federate(rounds=3, **settings).fit(small_task(), small_sites())) == bits(plain)


def test_every_byte_that_crosses_is_counted(federate: Federate) -> None:
    """Round 1: the whole model down; rounds after an evaluation: nothing, as the sites have it; else a difference."""
    folder = federate(**SMALL).fit(small_task(), small_sites())
    model = num_bytes(parameters_of_(folder))
    for site in {row["site"] for row in rows(folder.path, "fit")}:
        down = [row["bytes_down"] for row in rows(folder.path, "fit") if row["site"] == site]
        up = [row["bytes_up"] for row in rows(folder.path, "fit") if row["site"] == site]
        assert down[0] == model
        assert 0 < down[1] < model / 4
        assert down[2] == 0
        assert 0 < down[3] < model / 4
        assert all(0 < size < model / 4 for size in up)
    assert all(
        row[f"bytes_{way}"] == sum(size for name, size in row.items() if name.startswith(f"bytes_{way}/"))
        for row in rows(folder.path, "fit")
        for way in ("up", "down")
    )
    evaluated = [row["bytes_evaluate"] for row in rows(folder.path, "round")]
    assert evaluated[0] == evaluated[2] == 0
    assert 0 < evaluated[1] < model


def parameters_of_(folder: RunFolder) -> State:
    saved = folder.load()
    assert saved is not None
    params: State = saved["server"]["params"]
    return params


def test_a_plain_run_counts_its_tensors(federate: Federate) -> None:
    folder = federate(rounds=2, evaluate_every=2).fit(small_task(), small_sites())
    model = num_bytes(parameters_of_(folder))
    assert {(row["bytes_up"], row["bytes_down"]) for row in rows(folder.path, "fit")} == {(model, model)}
    sites = len({row["site"] for row in rows(folder.path, "fit")})
    assert [row["bytes_evaluate"] for row in rows(folder.path, "round")] == [0, sites * model]


@pytest.mark.parametrize("settings", [{}, {"uplink": [LowRank(2)], "downlink": []}])
def test_a_resumed_run_with_codecs_has_the_same_bits(
    federate: Federate, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = {**SMALL, **settings}
    whole = federate(**settings).fit(small_task(), small_sites())
    parts = {**settings, "run_folder": str(tmp_path / "parts")}
    federate(**{**parts, "rounds": 3}).fit(small_task(), small_sites())
    resumed = federate(**parts).fit(small_task(), small_sites(), ckpt_path="last")
    assert bits(whole) == bits(resumed)
    assert [row["bytes_up"] for row in rows(whole.path, "fit")] == [
        row["bytes_up"] for row in rows(resumed.path, "fit")
    ]


def test_sites_that_are_not_resident_keep_what_they_were_sent(federate: Federate) -> None:
    whole = federate(**SMALL).fit(small_task(), small_sites())
    settings = {**SMALL, "executor": InProcess(resident=1), "run_folder": f"{whole.path}-r"}
    assert bits(federate(**settings).fit(small_task(), small_sites())) == bits(whole)


class Forgetful(InProcess):
    """Restarts every site before round 3, with all that it kept but the model that it was sent to score."""

    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        for site, message in messages.items():
            if isinstance(message, Broadcast) and phase == "fit" and message.round == 3 and message.model == "kept":
                store = self._workplace._make_client.store(site)
                saved = store.load(2)
                assert saved is not None
                store.save(2, {**saved, "channel": {**saved["channel"], "version": 1, "model": {}}})
                self._workplace._forget(site)
        return super().call(phase, messages)


def test_a_site_that_lost_a_version_in_a_restart_is_sent_the_whole_model_and_loses_no_round(federate: Federate) -> None:
    """After the evaluation of round 2 the sites have version 2, so they are sent nothing in round 3."""
    whole = federate(**SMALL).fit(small_task(), small_sites())
    settings = {**SMALL, "executor": Forgetful(), "run_folder": f"{whole.path}-f"}
    folder = federate(**settings).fit(small_task(), small_sites())
    assert bits(folder) == bits(whole)
    assert not rows(folder.path, "failure")
    model = num_bytes(parameters_of_(folder))
    assert {row["bytes_down"] for row in rows(folder.path, "fit") if row["round"] == 3} == {model}


def test_what_lengthens_changes_is_refused_where_their_length_is_promised(federate: Federate) -> None:
    with pytest.raises(ConfigError, match="uplink must keep every bit for DPFedAvg, got TopK"):
        federate(aggregator=DPFedAvg(), uplink=[TopK()]).fit(small_task(), small_sites())
    check_codecs(Compression(uplink=[Zstd()], downlink=[TopK()]), True, DPFedAvg())


@pytest.mark.parametrize("way", ["uplink", "downlink"])
def test_codecs_in_one_direction_alone_lose_no_site(federate: Federate, way: str) -> None:
    settings: dict[str, Any] = {way: [Quantise(8)], "rounds": 4, "evaluate_every": 2}
    folder = federate(**settings).fit(small_task(), small_sites()).path
    assert not rows(folder, "failure")
    model = rows(folder, "fit")[0]["bytes_down"]
    written = [row[f"bytes_{way.removesuffix('link')}"] for row in rows(folder, "fit") if row["round"] > 1]
    assert all(size < model / 2 for size in written)


def test_what_is_kept_and_scored_is_the_model_that_the_sites_have(federate: Federate) -> None:
    folder = federate(**SMALL).fit(small_task(), small_sites())
    saved = folder.load()
    assert saved is not None
    kept = torch.load(folder.last, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[name], value) for name, value in saved["server"]["channel"]["model"].items())
    assert distance(saved["server"]["channel"]["model"], saved["server"]["params"]) > 0
    evaluations = federate(**SMALL).test(small_task(), small_sites(), ckpt_path=str(folder.path))
    assert evaluations


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"uplink": [TopK(2.0)]}, "TopK: share must be in"),
        ({"uplink": [Zstd(), TopK()]}, "Zstd must be last in uplink, got place 1 of 2"),
        ({"uplink": [RandomK(scaled=True)]}, "RandomK must be set to make things smaller"),
        ({"downlink": [Half()], "schedule": Buffered()}, "downlink must be left out with a schedule"),
    ],
)
def test_codecs_that_cannot_work_are_refused(federate: Federate, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        federate(**settings).fit(small_task(), small_sites())


def test_the_config_for_few_bytes_writes_messages_of_at_most_a_sixteenth(tmp_path: Path) -> None:
    """After the first broadcast, which is the whole model."""
    configs = Path(__file__).parents[1] / "configs"
    files = [str(configs / "quickstart.yaml"), str(configs / "communication" / "low_rank.yaml")]
    settings: dict[str, Any] = {
        "federation.rounds": 2,
        "federation.local_steps": 1,
        "federation.evaluate_every": 2,
        "data.cases": 6,
    }
    settings |= {"data.num_sites": 3, "data.held_out": "site3", "federation.run_folder": tmp_path / "run"}
    small = [f"--{name}={value}" for name, value in settings.items()]
    assert main(["fit", *(part for file in files for part in ("-c", file)), *small]) == 0
    first, *_, last = rows(tmp_path / "run", "fit")
    whole = first["bytes_down/parameters"]
    for size in (first["bytes_up/parameters"], last["bytes_up/parameters"], last["bytes_down/parameters"]):
        assert 0 < size < whole / 16
