"""FedDyn: dynamic regularisation (Acar et al., arXiv 2111.04263, Algorithm 1).

FedProx pulls sites to w_t, so even where all of them end at their own optimum, the mean is not the federation's. A
linear term moves each site's objective until the two agree: h_k tends to the gradient of F_k at the common optimum.

    at site k       min_w  F_k(w) - <h_k, w> + alpha/2 ||w - w_t||^2        w_t^k is where it ends
                    h_k <- h_k - alpha (w_t^k - w_t)                        h_k = 0 before its first round
    at the server   h <- h - alpha sum_{k in S} p_k (w_t^k - w_t)           p_k = n_k / sum of n over all sites
                    w_{t+1} = mean of w_t^k over S - h / alpha              S: the sites of the round

Shared: nothing; h_k, as large as the model, stays at its site. Privacy: as FedAvg. Secure aggregation: yes, only sums
are needed. Cost: a handful of operations a step and two more models at the site, 1.02 times FedAvg's time. Settings
that matter: ``alpha``, 0.01 to 0.1; small alpha makes the server's step h / alpha large and training unstable when
sites make few steps, as the theory takes the local problem for solved. Prostate segmentation in FedFA's comparison had
79.7 Dice against FedAvg's 87.1.

Released code: fluke has a wrong sign and applies alpha twice; PFLlib does not square the norm.

Deviations: the paper's mean over S is plain and p_k is 1/m with m sites in all, which is ``weighting: uniform``;
weights by cases give the same method for the weighted objective. The penalty runs over the trainable parameters that
the site shares. Buffers are averaged. With alpha 0, where h / alpha is not defined, it is FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import ClientPlugin, Step
from fedlight.plugins.averaging import AveragingAggregator
from fedlight.plugins.client_plugin import Statistics
from fedlight.state import State, flat, zip_map
from fedlight.update import Broadcast, RoundContext


class FedDyn(AveragingAggregator):
    """Averages and corrects by what all rounds so far left over; its client half regularises the sites.

    Args:
        alpha: Strength of the regularisation; 0 gives FedAvg.
    """

    linear = True
    averages = False
    null: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = alpha
        self._h: State = {}

    def validate(self) -> None:
        self.client_half().validate()

    def client_half(self) -> DynamicRegularizer:
        return DynamicRegularizer(self.alpha)

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        self._everybody = sum(context.weights[site] for site in context.sites)

    def step(self, start: State, mean: State) -> State:
        if not self.alpha:
            return mean
        rate = self.alpha * self._mean.total / self._everybody
        h = self._h or zip_map(torch.zeros_like, mean)
        self._h = zip_map(lambda h, w, start: h - rate * (w - start), h, mean, start)
        return zip_map(lambda w, h: w - h / self.alpha, mean, self._h)

    def state_dict(self) -> dict[str, Any]:
        return {"h": dict(self._h)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._h = dict(state["h"])


class DynamicRegularizer(ClientPlugin):
    """Adds a linear and a quadratic term to the loss of a site; the client's half of FedDyn.

    Args:
        alpha: Strength of the regularisation; 0 gives FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = alpha
        self._h: Tensor | None = None  # the site's gradient state, all shared parameters laid end to end

    def validate(self) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}. 0 gives FedAvg; try 0.1.")

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._params = [p for name, p in module.named_parameters() if name in broadcast.params]
        self._start = flat(self._params).detach()

    def penalty(self, step: Step) -> Tensor | None:
        if not self.alpha or not self._params:
            return None
        w = flat(self._params)
        self._start = self._start.to(w.device)  # by now the Trainer has moved the module
        pull = self.alpha / 2 * (w - self._start).square().sum()
        if self._h is None:
            return pull
        self._h = self._h.to(w.device)
        return pull - (self._h * w).sum()  # not a matrix product, which autocast would round

    def on_round_end(self, module: LightningModule) -> Statistics:
        if self.alpha and self._params:
            h, way = self._h, flat(self._params).detach().cpu() - self._start.cpu()
            self._h = (torch.zeros_like(way) if h is None else h.cpu()) - self.alpha * way
        del self._params, self._start
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"h": self._h}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._h = state["h"]
