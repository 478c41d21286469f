"""SCAFFOLD: control variates against client drift (Karimireddy et al., arXiv 1910.06378, Algorithm 1).

c_k is the mean gradient that site k saw in its last round and c that of all sites. Adding c - c_k lets a site step as
if it saw everybody's data, so that many local steps do not end in its own optimum.

    at site k       y <- y - eta (g_k(y) - c_k + c)                          K steps from y = w_t
                    c_k+ = c_k - c + (w_t - y) / (K eta)                     option II
    at the server   w_{t+1} = w_t + server_lr sum_{k in S} p_k (y_k - w_t)   p_k over the sites S of the round
                    c <- c + sum_{k in S} P_k (c_k+ - c_k)                   P_k over all sites

The local optimizer must be SGD: (w_t - y) / (K eta) is a gradient only if a step is eta times one, so Adam and its kin
are refused when the config is read.

Shared: c_k+ - c_k up and c down, each as large as the model: 1972364 bytes up and 1972364 down with four sites, twice
FedAvg's traffic. c_k stays at its site. Privacy: a mean gradient leaves the site, which the model's update tells almost
as well. Secure aggregation: yes, only sums are needed. Cost: one addition a step, 0.98 times FedAvg's time. Settings
that matter: the learning rate, usually below FedAvg's.

Released code: FedDG_Benchmark takes epochs for steps and replaces c by the mean over the round's sites.

Deviations: the paper's means are plain, which is ``weighting: uniform``; weights by cases give the same method for the
weighted objective. Under momentum K becomes ||a||_1, what the steps add up to (FedNova, arXiv 2007.07481), for an
optimizer that is reset every round. ``correction`` is not in the paper. Weight decay counts as part of the gradient;
clipping in the Trainer acts on the corrected gradient. Private parameters have no control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.local_steps import accumulated, momentum_of
from fedlight.state import RunningMean, State, zip_map
from fedlight.update import Broadcast, RoundContext, Update


class Scaffold(Aggregator):
    """Averages the sites' steps; its client half corrects their gradients with control variates.

    Args:
        server_lr: Length of the server's step; the paper's global learning rate.
        correction: Share of c - c_k that is added to gradients; 1 is the paper's, 0 with server_lr 1 gives FedAvg.
    """

    linear = True
    null: ClassVar[Mapping[str, Any]] = {"server_lr": 1.0, "correction": 0.0}

    def __init__(self, server_lr: float = 1.0, correction: float = 1.0) -> None:
        self.server_lr = server_lr
        self.correction = correction

    def validate(self) -> None:
        if not self.server_lr > 0:
            raise ValueError(f"server_lr must be positive, got {self.server_lr}. To take the mean's step, use 1.")

    def client_half(self) -> ScaffoldControl:
        return ScaffoldControl(self.correction)

    def begin(self, context: RoundContext, params: State) -> None:
        self._weights = context.weights
        self._start = params
        self._mean = RunningMean()

    def add(self, update: Update) -> None:
        self._mean.add(update.params, self._weights[update.site])

    def finish(self) -> State:
        return zip_map(self._step, self._mean.result(), self._start)

    def _step(self, mean: Tensor, start: Tensor) -> Tensor:
        return mean + (self.server_lr - 1) * (mean - start)  # the mean's own bits for server_lr 1


class ScaffoldControl(ClientPlugin):
    """Keeps a site's control variate and corrects its gradients; the client's half of SCAFFOLD.

    Args:
        correction: Share of c - c_k that is added to gradients; 1 is the paper's, 0 gives FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"correction": 0.0}

    def __init__(self, correction: float = 1.0) -> None:
        self.correction = correction
        self._control: State = {}  # c_k

    def validate(self) -> None:
        if not 0 <= self.correction <= 1:
            raise ValueError(f"correction must be in [0, 1], got {self.correction}. 1 is the paper's, 0 FedAvg.")

    def check_optimizer(self, optimizer: Optimizer) -> None:
        if self.correction:
            momentum_of(optimizer)

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._params = {name: p for name, p in module.named_parameters() if name in broadcast.params}
        self._start = zip_map(lambda p: p.detach().cpu().clone(), self._params)
        self._control = self._control or zip_map(torch.zeros_like, self._start)
        common = broadcast.shared.get(self.instance_id) or zip_map(torch.zeros_like, self._start)
        self._shift = zip_map(lambda c, c_k: self.correction * (c - c_k), common, self._control)
        self._steps = 0

    def wrap_optimizer(self, optimizer: Optimizer) -> Optimizer:
        self.check_optimizer(optimizer)
        self._lr = float(optimizer.param_groups[0]["lr"])
        self._momentum = float(optimizer.param_groups[0].get("momentum", 0.0))
        optimizer.register_step_post_hook(self._count)  # not gradients: SAM takes two of these for a step
        return optimizer

    def _count(self, *_: object) -> None:
        self._steps += 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shift = {name: shift.to(pl_module.device) for name, shift in self._shift.items()}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.correction:
            for name, p in self._params.items():
                if p.grad is not None:
                    p.grad.add_(self._shift[name])

    def on_round_end(self, module: LightningModule) -> Statistics:
        params, self._params = self._params, {}
        if not self.correction or not self._steps:
            return {}
        reach = self._lr * accumulated(self._steps, self._momentum)  # K eta for plain SGD
        end = zip_map(lambda p: p.detach().cpu(), params)
        shift = zip_map(lambda shift: shift.cpu(), self._shift)
        control = zip_map(lambda x, y, shift: option_two(x, y, shift, reach), self._start, end, shift)
        change, self._control = zip_map(torch.sub, control, self._control), control
        return change

    def state_dict(self) -> dict[str, Any]:
        return {"control": dict(self._control)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._control = dict(state["control"])

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._weights = context.weights
        self._everybody = sum(context.weights[site] for site in context.sites)
        self._changes = RunningMean()

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._changes.add(shared, self._weights[site])

    def finish(self) -> Statistics:
        if not self._changes.total:
            return self._previous
        share = self._changes.total / self._everybody
        change = zip_map(lambda mean: share * mean, self._changes.result())
        return zip_map(torch.add, change, self._previous) if self._previous else change


def option_two(x: Tensor, y: Tensor, shift: Tensor, reach: float) -> Tensor:
    """Returns c_k+ = (x - y) / reach - shift, the mean gradient of a round without its correction.

    Args:
        x: Where the site started.
        y: Where it ended.
        shift: What was added to every gradient, c - c_k.
        reach: Number of steps times learning rate.
    """
    return (x - y) / reach - shift
