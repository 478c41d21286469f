"""Aggregators as a strategy in anybody's ServerApp."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fedlight_algorithms import CoordinateMedian, FedAvg, FedAvgM, Scaffold
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedlight.deploy.strategy import FedlightStrategy

MODEL = {"w": torch.tensor([0.0, 0.0]), "steps": torch.tensor(3)}


class Nodes(SimpleNamespace):
    """Three nodes that are connected."""

    def get_node_ids(self) -> list[int]:
        return [1, 2, 3]


def replies(strategy: FedlightStrategy, answers: dict[int, Any], model: Any = None) -> list[Message]:
    """What nodes reply: tensors and number of examples by node, or an error."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    config: Any = Nodes()
    sent = strategy.configure_train(1, ArrayRecord(model or MODEL), ConfigRecord(), config)
    result = []
    for message in sent:
        message.metadata.__dict__["_message_id"] = "1"
        answer = answers[message.metadata.dst_node_id]
        if answer is None:
            reply = Message(Error(code=2, reason="no"), reply_to=message)
        else:
            tensors, count = answer
            metrics = MetricRecord({"num-examples": count, "loss": 1.0})
            reply = Message(RecordDict({"arrays": ArrayRecord(tensors), "metrics": metrics}), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
        result.append(reply)
    return result


def answer(x: float, y: float, steps: int = 4, count: int = 1) -> tuple[dict[str, torch.Tensor], int]:
    return {"w": torch.tensor([float(x), float(y)]), "steps": torch.tensor(steps)}, count


def aggregated(strategy: FedlightStrategy, answers: dict[int, Any]) -> dict[str, torch.Tensor]:
    arrays, metrics = strategy.aggregate_train(1, replies(strategy, answers))
    assert arrays is not None
    assert metrics is not None
    return arrays.to_torch_state_dict()


def test_the_mean_is_weighted_by_examples_and_counters_stay_integers() -> None:
    """(1*1 + 2*2 + 5*5) / 8 = 3.75; of 4, 9 and 5 steps the largest is 9."""
    answers = {1: answer(1, 0, 4, 1), 2: answer(2, 0, 9, 2), 3: answer(5, 0, 5, 5)}
    made = aggregated(FedlightStrategy(FedAvg()), answers)
    assert made["w"].tolist() == [3.75, 0.0]
    assert made["steps"].dtype == torch.int64
    assert made["steps"].item() == 9


def test_a_robust_aggregator_shrugs_off_an_outlier() -> None:
    """Of 1, 2 and 1000 the median is 2."""
    made = aggregated(FedlightStrategy(CoordinateMedian()), {1: answer(1, 1), 2: answer(2, 2), 3: answer(1000, -1000)})
    assert made["w"].tolist() == [2.0, 1.0]


def test_the_server_keeps_its_momentum_from_round_to_round() -> None:
    """With momentum 1/2 and rate 1 the velocity is delta plus half of what it was, and the model moves by it.

    Round 1: delta 4, so 0 + 4 = 4. Round 2: all answer with what they got, so 4 + (0 + 4/2) = 6.
    """
    strategy = FedlightStrategy(FedAvgM(momentum=0.5))
    first = aggregated(strategy, dict.fromkeys((1, 2, 3), answer(4, 4)))
    assert first["w"].tolist() == [4.0, 4.0]
    again = replies(strategy, dict.fromkeys((1, 2, 3), answer(4, 4)), model=first)
    arrays, _ = strategy.aggregate_train(2, again)
    assert arrays is not None
    assert arrays.to_torch_state_dict()["w"].tolist() == [6.0, 6.0]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        answer(float("nan"), 0),
        ({"w": torch.zeros(3), "steps": torch.tensor(1)}, 1),
        ({"w": torch.zeros(2)}, 1),
        ({"w": torch.zeros(2).double(), "steps": torch.tensor(1)}, 1),
        answer(1, 1, count=0),
        answer(1, 1, count=-5),
    ],
)
def test_a_reply_that_cannot_be_used_is_left_out_by_name(broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    made = aggregated(FedlightStrategy(FedAvg()), {1: answer(1, 1), 2: broken, 3: answer(3, 3)})
    assert made["w"].tolist() == [2.0, 2.0]
    assert "node 2, round 1: left out: " in caplog.text


def test_without_a_usable_reply_there_is_no_new_model() -> None:
    strategy = FedlightStrategy(FedAvg())
    assert strategy.aggregate_train(1, replies(strategy, dict.fromkeys((1, 2, 3)))) == (None, None)


def test_an_aggregator_that_needs_its_half_at_the_clients_is_refused() -> None:
    with pytest.raises(ValueError, match="Scaffold needs clients of fedlight's"):
        FedlightStrategy(Scaffold())
