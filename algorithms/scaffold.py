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
as well. Secure aggregation: yes, only sums are needed. Cost: one addition a step, 1.04 times FedAvg's time. Settings
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

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.control_variates import ControlVariates
from fedlight.plugins.local_steps import accumulated, momentum_of
from fedlight.state import State, zip_map
from fedlight.update import Broadcast


class Scaffold(AveragingAggregator):
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

    def step(self, start: State, mean: State) -> State:
        # with the mean's own bits for server_lr 1
        return zip_map(lambda mean, start: mean + (self.server_lr - 1) * (mean - start), mean, start)


class ScaffoldControl(ControlVariates):
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

    def active(self) -> bool:
        return self.correction > 0

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
        self._steps = dict.fromkeys(self._params, 0)

    def wrap_optimizer(self, optimizer: Optimizer) -> Optimizer:
        self.check_optimizer(optimizer)
        self._lr = float(optimizer.param_groups[0]["lr"])
        self._momentum = float(optimizer.param_groups[0].get("momentum", 0.0))
        optimizer.register_step_post_hook(self._count)  # not gradients: SAM takes two of these for a step
        return optimizer

    def _count(self, *_: object) -> None:
        for name, p in self._params.items():
            self._steps[name] += p.grad is not None  # what has no gradient sits a step out

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shift = {name: shift.to(pl_module.device) for name, shift in self._shift.items()}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.correction:
            for name, p in self._params.items():
                if p.grad is not None:
                    p.grad.add_(self._shift[name])

    def on_round_end(self, module: LightningModule) -> Statistics:
        params, self._params = self._params, {}
        if not self.correction or not any(self._steps.values()):
            return {}
        # K eta for plain SGD
        reach = {steps: self._lr * accumulated(steps, self._momentum) for steps in set(self._steps.values())}
        control = dict(self._control)
        for name, steps in self._steps.items():
            if steps:
                end, shift = params[name].detach().cpu(), self._shift[name].cpu()
                control[name] = option_two(self._start[name], end, shift, reach[steps])
        change, self._control = zip_map(torch.sub, control, self._control), control
        return change

    def state_dict(self) -> dict[str, Any]:
        return {"control": dict(self._control)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._control = dict(state["control"])


def option_two(x: Tensor, y: Tensor, shift: Tensor, reach: float) -> Tensor:
    """Returns c_k+ = (x - y) / reach - shift, the mean gradient of a round without its correction.

    Args:
        x: Where the site started.
        y: Where it ended.
        shift: What was added to every gradient, c - c_k.
        reach: Number of steps times learning rate.
    """
    return (x - y) / reach - shift
