"""The contract catches what it claims to catch: one broken plugin for every promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Aggregator, Batch, ClientPlugin, Plugin, Step, StyleAugmentation
from fedlight.plugins.client_plugin import Statistics
from fedlight.state import State, zip_map
from fedlight.update import Broadcast, RoundContext, Update
from tests.contracts import checks


class _First(Aggregator):
    """Takes whatever comes first."""

    def begin(self, context: RoundContext, params: State) -> None:
        self.seen: list[State] = []

    def add(self, update: Update) -> None:
        self.seen.append(update.params)

    def finish(self) -> State:
        return self.seen[0]


class _Sum(_First):
    """Forgets to divide."""

    def finish(self) -> State:
        return zip_map(lambda *values: torch.stack(values).sum(0), *self.seen)


class _Weighted(Aggregator):
    """Forgets that weights need not sum to one."""

    def begin(self, context: RoundContext, params: State) -> None:
        self.context, self.sum = context, {name: torch.zeros_like(value) for name, value in params.items()}

    def add(self, update: Update) -> None:
        weight = self.context.weights[update.site] / 6
        self.sum = zip_map(lambda total, value: total + weight * value, self.sum, update.params)

    def finish(self) -> State:
        return self.sum


class _InPlace(_First):
    """Scales the first site's tensors where they are."""

    def finish(self) -> State:
        return {name: value.mul_(0.5) for name, value in self.seen[0].items()}


class _Hasty(_First):
    """Remembers updates of rounds that were never finished."""

    def __init__(self) -> None:
        self.memory: list[State] = []

    def add(self, update: Update) -> None:
        self.memory.append(update.params)

    def finish(self) -> State:
        return self.memory[0]


class _Paints(StyleAugmentation):
    """Changes a mask."""

    def transform_batch(self, batch: Batch) -> Batch:
        return {**batch, "mask": 1 - batch["mask"]}


class _Careless(StyleAugmentation):
    """Changes images where they are."""

    def transform_batch(self, batch: Batch) -> Batch:
        batch["image"].mul_(2)
        return batch


class _CarelessFeatures(StyleAugmentation):
    """Changes features where they are."""

    stages = ("logits",)

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            return x.mul_(2)


class _OwnNoise(StyleAugmentation):
    """Draws from the global generator."""

    def transform_batch(self, batch: Batch) -> Batch:
        return {**batch, "image": batch["image"] + torch.randn_like(batch["image"])}


class _Neighbours(StyleAugmentation):
    """Mixes the examples of a batch and does not say so."""

    def transform_batch(self, batch: Batch) -> Batch:
        return {**batch, "image": batch["image"] - batch["image"].mean(0)}


class _Clings(ClientPlugin):
    """Leaves a hook behind."""

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        module.register_forward_hook(lambda *_: None)


class _Divides(ClientPlugin):
    """Standardises without an epsilon."""

    def penalty(self, step: Step) -> Tensor | None:
        return step.logits.mean() / step.images.std(dim=(2, 3)).mean()


class _Leaks(ClientPlugin):
    """Shares a number for every image."""

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self.seen: list[Tensor] = []

    def transform_batch(self, batch: Batch) -> Batch:
        self.seen.append(batch["image"].mean((1, 2, 3)))
        return batch

    def on_round_end(self, module: LightningModule) -> Statistics:
        return {"means": torch.cat(self.seen)} if self.seen else {}


class _Forgets(ClientPlugin):
    """Counts rounds and does not store the count."""

    rounds = 0

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self.rounds += 1

    def penalty(self, step: Step) -> Tensor | None:
        return 0.1 * self.rounds * step.logits.square().mean()


class _FalseNull(ClientPlugin):
    """Says that its default is FedAvg."""

    null: ClassVar[Mapping[str, Any]] = {}

    def penalty(self, step: Step) -> Tensor | None:
        return step.logits.square().mean()


class _Idle(ClientPlugin):
    """Has a setting that does nothing."""

    null: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength


class _Works(ClientPlugin):
    """Holds something that cannot be sent to another process."""

    def __init__(self) -> None:
        self.square = lambda x: x**2


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (_First, checks.order_does_not_matter),
        (_Sum, checks.agreement_is_a_fixed_point),
        (_Weighted, checks.rescaled_weights_do_not_matter),
        (_InPlace, checks.aggregation_modifies_nothing),
        (_Hasty, checks.abandoned_round_leaves_no_trace),
        (_Paints, checks.masks_are_never_touched),
        (_Careless, checks.inputs_are_not_modified),
        (_CarelessFeatures, checks.inputs_are_not_modified),
        (_OwnNoise, checks.same_generator_same_result),
        (_Neighbours, checks.declared_independence_holds),
        (_Clings, checks.hooks_are_gone),
        (_Divides, checks.hard_batches_stay_finite),
        (_Leaks, checks.shares_site_level_only),
        (_Forgets, checks.state_survives),
        (_FalseNull, checks.null_setting_is_fedavg),
        (_Idle, checks.default_setting_is_not_fedavg),
    ],
    ids=lambda each: each.__name__,
)
def test_a_broken_promise_is_caught(cls: type[Plugin], check: Any) -> None:
    with pytest.raises(AssertionError):
        check(cls)


def test_a_constructor_that_makes_what_cannot_be_sent_is_caught() -> None:
    with pytest.raises(Exception, match=r"pickle|lambda"):
        checks.constructor_only_stores(_Works)
