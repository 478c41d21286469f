"""Ditto: a model of its own for every site, tied to the global one (Li et al., arXiv 2012.04221, Algorithm 1).

The global model is trained as without Ditto. Beside it every site trains a personal model that may differ from it as
much as pays: with lam = 0 it is the site's alone, with large lam it is the global one.

    w_{t+1}   as without Ditto
    v_k      <- v_k - eta ( grad F_k(v_k) + lam (v_k - w_t) )        one step beside every step of w    (equation 2)

A site's own cases are scored with its personal model, so global.ckpt is of the round whose personal models are best;
``evaluate: global`` scores and selects the global model. An institution that took no part always gets the global model.

Shared: nothing. The personal model (2 MB for 493 thousand parameters) never leaves the site. Privacy: as FedAvg. Secure
aggregation: yes. Cost: a second pass and a second optimizer in every step, 2.04 times FedAvg's time. Settings that
matter: ``lam``; the paper tunes it, around 0.1 to 2.

Deviations: the paper lets v_k make steps of its own in a round; here it makes one beside every step of w, on the same
batch, without feature styles and penalties, with an optimizer as in the config (the round's learning rate, state reset
every round). Under fp16 its gradients are not scaled up: prefer bf16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from fedlight.plugins import Aggregator, Batch, ClientPlugin, Step
from fedlight.plugins.client_plugin import Statistics
from fedlight.state import State, buffers_of, clone, parameters_of
from fedlight.update import Broadcast


class Ditto(ClientPlugin):
    """Trains a personal model beside the global one, which stays FedAvg's (or any aggregator's) bit for bit.

    Args:
        lam: Strength of the tie to the global model of the round; 0 trains each personal model alone.
        evaluate: Which model scores the site's own cases.
    """

    needs_shared = True
    null: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, lam: float = 0.1, evaluate: Literal["personal", "global"] = "personal") -> None:
        self.lam = lam
        self.evaluate = evaluate
        self._params: State = {}
        self._buffers: State = {}

    def validate(self) -> None:
        if not self.lam >= 0:
            raise ValueError(f"lam must not be negative, got {self.lam}. 0 trains each personal model alone.")

    def check_others(self, aggregator: Aggregator, plugins: Sequence[ClientPlugin]) -> None:
        if self.evaluate == "personal" and "local_scores" in aggregator.measures:
            name = type(aggregator).__name__
            raise ValueError(
                f"evaluate must be global under {name}, which weighs sites by how the global model does there, got "
                "personal. Use global."
            )

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._round = parameters_of(module)  # w_t
        self._params, self._buffers = self._params or clone(self._round), self._buffers or buffers_of(module)
        self._make_optimizer = cast(Any, module).make_optimizer
        self._optimizer: Optimizer | None = None
        self._rate: float | None = None

    def wrap_optimizer(self, optimizer: Optimizer) -> Optimizer:
        self._rate = optimizer.param_groups[0]["lr"]
        return optimizer

    def transform_batch(self, batch: Batch) -> Batch:
        self._due = True
        return batch

    def penalty(self, step: Step) -> Tensor | None:
        """Takes the personal model's step; the objective of the global model stays as it is."""
        if self._due:  # once a batch, also where another plugin repeats the pass
            self._due = False
            self._personal_step(step, self._prepared(step.images.device))
        return None

    def _personal_step(self, step: Step, optimizer: Optimizer) -> None:
        logits = step.forward(step.images, {**self._params, **self._buffers}).logits
        loss = step.criterion(logits, step.masks, step.valid)
        gradients = torch.autograd.grad(loss, list(self._params.values()), allow_unused=True)
        for (name, v), gradient in zip(self._params.items(), gradients, strict=True):
            pull = self.lam * (v.detach() - self._round[name])
            v.grad = pull if gradient is None else gradient + pull
        optimizer.step()

    def _prepared(self, device: torch.device) -> Optimizer:
        if self._optimizer is None:
            self._params = {name: v.to(device).requires_grad_() for name, v in self._params.items()}
            self._buffers = {name: value.to(device) for name, value in self._buffers.items()}
            self._round = {name: w.to(device) for name, w in self._round.items()}
            self._optimizer = cast(Optimizer, self._make_optimizer(list(self._params.values())))
            for group in self._optimizer.param_groups:
                group["lr"] = group["lr"] if self._rate is None else self._rate
        return self._optimizer

    def personal(self) -> Mapping[str, Tensor]:
        return {**self._params, **self._buffers} if self.evaluate == "personal" else {}

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._params = {name: v.detach().cpu() for name, v in self._params.items()}
        self._buffers = {name: value.cpu() for name, value in self._buffers.items()}
        self._round, self._optimizer, self._make_optimizer = {}, None, None
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"params": dict(self._params), "buffers": dict(self._buffers)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._params, self._buffers = dict(state["params"]), dict(state["buffers"])
