"""FedNova: every site counts by what it learned in a step, not by how many it made (Wang et al., arXiv 2007.07481).

Where sites make different numbers of steps, FedAvg minimises another objective than the weighted mean of the sites'
own, in favour of those that make more. FedNova divides each site's way by its work, averages, and goes the mean work.

    d_k     = (w_t - w_t^k) / ||a_k||_1        how far site k went, per unit of local work
    w_{t+1} = w_t - tau_eff sum_k p_k d_k      tau_eff = sum_k p_k ||a_k||_1
    ||a_k||_1 = tau_k                                            SGD, tau_k steps
    ||a_k||_1 = sum_{i=1}^{tau_k} (1 - rho^i) / (1 - rho)        SGD with momentum rho
    ||a_k||_1 = (1 - (1 - eta mu)^tau_k) / (eta mu)              with a proximal term mu, learning rate eta

Shared: nothing but the number of local steps, among a site's metrics. Privacy: as FedAvg. Secure aggregation: no, it
would need sums weighted by n_k / ||a_k||_1, which the usual weights are not. Cost: 1.00 times FedAvg's time. Settings
that matter: ``momentum`` must be that of the local optimizer, which is checked when the config is read; ``prox`` is
learning rate times mu where FedProx is among the plugins. Sites differ in steps under ``local_epochs``; with
``local_steps`` all do the same work and the bits are FedAvg's, so there is no null setting.

Released code: fluke forgets w_t itself; FedLab ignores n_k and momentum.

Deviations: the optimizer's state is taken to be reset every round. Momentum and proximal term together are composed
exactly (the way of a unit gradient is followed), where the authors' code adds both effects up. Under an adaptive local
optimizer a_k is not defined; with momentum 0 steps are counted as for SGD, which is usual but not covered by theory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.plugins.local_steps import accumulated, momentum_of
from fedlight.state import State, zip_map
from fedlight.update import RoundContext, Update


class FedNova(AveragingAggregator):
    """Averages what the sites did per unit of local work.

    Args:
        momentum: That of the local SGD; 0 for any other optimizer.
        prox: Learning rate times mu of a proximal term in the local objective; 0 without one.
    """

    averages = True

    def __init__(self, momentum: float = 0.0, prox: float = 0.0) -> None:
        self.momentum = momentum
        self.prox = prox

    def validate(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}. Use that of the local optimizer.")
        if not 0 <= self.prox < 1:
            raise ValueError(f"prox must be in [0, 1), got {self.prox}. It is learning rate times mu of FedProx.")

    def check_optimizer(self, optimizer: Optimizer) -> None:
        actual = momentum_of(optimizer) if isinstance(optimizer, SGD) else 0.0
        if actual != self.momentum:
            raise ValueError(
                f"momentum must be that of the local optimizer, {actual}, got {self.momentum}. "
                f"Set federation.aggregator.momentum to {actual}."
            )

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        self._unit = 0.0
        self._samples = self._work = 0.0

    def add(self, update: Update) -> None:
        weight = self._weights[update.site]
        work = accumulated(round(update.metrics["steps"]), self.momentum, self.prox)
        self._unit = self._unit or work  # in units of the first site's work, equal work is exactly 1
        self._mean.add(update.params, weight / (work / self._unit))  # a mean with weights n_k / ||a_k||_1
        self._samples += weight
        self._work += weight * (work / self._unit)

    def step(self, start: State, mean: State) -> State:
        # tau_eff sum_k p_k / ||a_k||_1: at least 1, and 1 where all sites do the same work
        stretch = (self._work / self._samples) * (self._mean.total / self._samples)
        return zip_map(lambda mean, start: _stretched(mean, start, stretch), mean, start)


def _stretched(mean: Tensor, start: Tensor, stretch: float) -> Tensor:
    """Returns start + stretch (mean - start), with the bits of the mean where stretch is 1."""
    return mean + (stretch - 1) * torch.sub(mean, start)
