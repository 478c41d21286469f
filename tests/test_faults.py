"""What becomes of a round in which sites fail: named, left out, or the run stops with its last good state."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from fedlight_algorithms import MOON, Ditto, Local
from lightning.pytorch import Callback

from fedlight import state
from fedlight.federation import Federation
from fedlight.plugins import ClientPlugin
from fedlight.server import RoundFailedError, Server
from fedlight.update import Broadcast, RoundContext, Update
from tests.conftest import fedavg, small_sites, small_task

Federate = Callable[..., Federation]


class Failing(ClientPlugin):
    """Misbehaves at one site in one round."""

    def __init__(self, site: str = "site2", round: int = 2, how: str = "raise") -> None:
        self.site, self.round, self.how = site, round, how

    def on_round_start(self, site: str, module: Any, broadcast: Broadcast) -> None:
        self._now = site == self.site and broadcast.context.round == self.round
        if self._now and self.how == "raise":
            raise RuntimeError("the scanner is on fire")
        if self._now and self.how == "exit":
            sys.exit(5)

    def on_round_end(self, module: Any) -> Mapping[str, torch.Tensor]:
        if self._now and self.how == "nan":
            with torch.no_grad():
                next(module.parameters()).fill_(float("nan"))
        if self._now and self.how == "shared":
            return {"statistic": torch.tensor([float("inf")])}
        return {}


def rows(folder: Any, kind: str) -> list[dict[str, Any]]:
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("raise", "raised", "RuntimeError: the scanner is on fire"),
        ("exit", "raised", "SystemExit: 5"),
        ("nan", "refused", "holds values that are not finite"),
        ("shared", "refused", "Failing shares statistic with values that are not finite"),
    ],
)
def test_a_failing_site_is_named_and_the_round_goes_on(federate: Federate, how: str, kind: str, reason: str) -> None:
    folder = federate(plugins=[Failing(how=how)], min_sites=2).fit(small_task(), small_sites())
    (failure,) = rows(folder, "failure")
    assert (failure["site"], failure["round"], failure["phase"]) == ("site2", 2, "fit")
    assert reason in failure["reason"]
    assert kind in failure.values()
    assert (folder.path / "errors.log").exists() == (kind == "raised")
    trained = {number: {row["site"] for row in rows(folder, "fit") if row["round"] == number} for number in (1, 2, 3)}
    assert trained == {1: {"site1", "site2", "site3"}, 2: {"site1", "site3"}, 3: {"site1", "site2", "site3"}}
    saved = folder.load()
    assert saved is not None
    assert all(bool(torch.isfinite(value).all()) for value in saved["server"]["params"].values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plugins": [Failing(how="nan"), MOON()]}, "update refused: "),
        ({"plugins": [Failing(how="nan"), Ditto()]}, "update refused: "),
        ({"aggregator": Local(), "plugins": [Failing(how="nan")]}, "what stays at the site is not finite"),
    ],
    ids=["MOON", "Ditto", "Local"],
)
def test_a_site_that_diverged_goes_on_from_its_last_good_round(
    federate: Federate, changes: dict[str, Any], reason: str
) -> None:
    """What a plugin remembers of a diverged model, or the model itself where it stays, would spoil all later rounds."""
    folder = federate(**changes, rounds=4).fit(small_task(), small_sites())
    (failure,) = rows(folder, "failure")
    assert (failure["site"], failure["round"]) == ("site2", 2)
    assert reason in failure["reason"]
    assert [row["round"] for row in rows(folder, "fit") if row["site"] == "site2"] == [1, 3, 4]


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_with_too_few_sites_the_run_stops_and_keeps_its_last_good_state(federate: Federate, how: str) -> None:
    federation = federate(plugins=[Failing(how=how)], min_sites=3)
    said = r"round 2 has 2 usable updates but needs 3 \(min_sites\); site2: .*\. Go on with"
    with pytest.raises(RoundFailedError, match=said):
        federation.fit(small_task(), small_sites())
    run_folder = federation.run_folder
    mended = federate(plugins=[Failing(round=99)], min_sites=3).fit(small_task(), small_sites(), ckpt_path="last")
    whole = federate(plugins=[Failing(round=99)], min_sites=3, run_folder=str(run_folder) + "-whole")
    expected = whole.fit(small_task(), small_sites())
    first, second = mended.load(), expected.load()
    assert first is not None
    assert second is not None
    assert state.digest(first["server"]["params"]) == state.digest(second["server"]["params"])
    assert not rows(mended, "failure")


def test_a_site_that_failed_goes_on_from_its_last_finished_round(federate: Federate) -> None:
    """Its kept momentum is that of round 1, although it was at work in round 2."""
    federation = federate(plugins=[Failing(how="raise")], optimizer_state="keep", rounds=2)
    folder = federation.fit(small_task(), small_sites())
    saved = [sorted(path.name for path in (folder.sites / site).iterdir()) for site in ("site1", "site2")]
    assert saved == [["00001.safetensors", "00002.safetensors"], ["00001.safetensors"]]


def context() -> RoundContext:
    sites = ("a", "b")
    return RoundContext(1, 1, 0, sites, sites, {"a": 1, "b": 1}, {"a": 1.0, "b": 1.0})


def update(site: str, **changes: Any) -> Update:
    arguments: dict[str, Any] = {"num_samples": 1, "params": {"w": torch.ones(2)}, "buffers": {}}
    return Update(site=site, round=changes.pop("round", 1), **{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"params": {}}, "w is missing (1 of 1 tensors are)"),
        ({"params": {"w": torch.ones(3)}}, "w has shape (3,), expected (2,)"),
        ({"params": {"w": torch.ones(2).double()}}, "w has dtype torch.float64, expected torch.float32"),
        ({"params": {"w": torch.ones(2), "x": torch.ones(1)}}, "x is not a tensor of this network"),
        ({"params": {"w": torch.tensor([1.0, float("inf")])}}, "w holds values that are not finite"),
        ({"num_samples": 0}, "it counts 0 training cases"),
        ({"round": 7}, "it is from b, round 7"),
        ({"metrics": {"train_loss": float("nan")}, "params": {}}, "(training loss nan)"),
    ],
)
def test_an_unusable_update_is_refused_by_name_and_never_averaged(changes: dict[str, Any], reason: str) -> None:
    server = Server(fedavg(), [], {"w": torch.zeros(2)}, {})
    replies = [("a", update("a")), ("b", update("b", **changes))]
    sites, failures = server.collect(context(), replies, min_sites=1)
    assert [site.site for site in sites] == ["a"]
    assert [failure.site for failure in failures] == ["b"]
    assert reason in failures[0].reason
    assert torch.equal(server.params["w"], torch.ones(2))


def test_a_round_with_too_few_updates_leaves_the_server_as_it_was() -> None:
    server = Server(fedavg(), [], {"w": torch.zeros(2)}, {})
    with pytest.raises(RoundFailedError, match="has 1 usable update but needs 2"):
        server.collect(context(), [("a", update("a")), ("b", update("b", params={}))], min_sites=2)
    assert torch.equal(server.params["w"], torch.zeros(2))
    assert server.round == 0


class Interrupt(Callback):
    """Ctrl-C in the middle of a site's training."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_run_can_be_continued(federate: Federate) -> None:
    stopped = federate(trainer={"accelerator": "cpu", "devices": 1, "callbacks": [Interrupt()]})
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stopped.fit(small_task(), small_sites())
    folder = federate().fit(small_task(), small_sites(), ckpt_path="last")
    assert folder.selected.is_file()


def test_early_stopping_ends_the_run_and_a_resumed_run_does_not_go_on(federate: Federate) -> None:
    """A learning rate of zero never improves, so patience 2 ends after round 3: one best and two that are not."""
    frozen: dict[str, Any] = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=1e-30)}
    folder = federate(rounds=9, patience=2).fit(small_task(**frozen), small_sites())
    assert [row["round"] for row in rows(folder, "round")] == [1, 2, 3]
    federate(rounds=9, patience=2).fit(small_task(**frozen), small_sites(), ckpt_path="last")
    assert [row["round"] for row in rows(folder, "round")] == [1, 2, 3]


def test_selection_keeps_the_model_of_the_best_round(federate: Federate) -> None:
    """The rate falls to nothing after round 2 of 5, so no later round is strictly better than the best of the first."""
    task = small_task(scheduler=lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], gamma=0.0))
    folder = federate(rounds=5, local_steps=4).fit(task, small_sites())
    scores: dict[int, list[float]] = {}
    for row in rows(folder, "val"):
        scores.setdefault(row["round"], []).append(row["dice"])
    means = {number: sum(values) / len(values) for number, values in scores.items()}
    best = torch.load(folder.selected, weights_only=True)["fedlight"]["round"]
    last = torch.load(folder.last, weights_only=True)["fedlight"]["round"]
    assert list(means) == [1, 2, 3, 4, 5]
    assert best == max(means, key=lambda number: (means[number], -number))
    assert best <= 2
    assert last == 5


def test_scores_are_not_sent_to_other_sites(federate: Federate) -> None:
    seen: list[Broadcast] = []

    class Listening(ClientPlugin):
        def on_round_start(self, site: str, module: Any, broadcast: Broadcast) -> None:
            seen.append(broadcast)

    federate(rounds=2, plugins=[Listening()]).fit(small_task(), small_sites())
    evaluations = [evaluation for broadcast in seen for evaluation in broadcast.context.evaluations.values()]
    assert len(seen) == 6
    assert not evaluations
