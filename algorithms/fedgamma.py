"""FedGAMMA: flat minima of the federation's loss instead of a site's (Dai et al., IEEE TNNLS 2023).

Every site takes SAM's gradient (Foret et al., arXiv 2010.01412) and corrects it by SCAFFOLD's control variates
(Karimireddy et al., arXiv 1910.06378), so that the flat region it finds is one for all sites.

    eps    = rho g / ||g||                 g = grad F_k(w), one norm over all tensors
    w     <- w - eta (g~ - c_k + c)        g~ = grad F_k(w + eps)
    c_k+   = c_k - c + (w_t - w_K) / (K eta) = mean of the K gradients g~            (SCAFFOLD, option II)
    c     <- c + sum over the sites of the round of P_k (c_k+ - c_k)          P_k over all sites; all start at 0

The local optimizer must be SGD: an adaptive one rescales the correction differently at every site, so that it no longer
cancels.

Shared: c_k+ - c_k up and c down, each as large as the model: 1972364 bytes up and 1972364 down with four sites, twice
FedAvg's traffic. c_k stays at the site. Privacy: c_k+ - c_k is a mean gradient and tells as much as an update. Secure
aggregation: yes, only the sum is needed. Cost: two passes a step, 1.99 times FedAvg's time. Settings that matter:
``rho``, and the sites' learning rate.

Deviations: c_k+ is computed as the mean of g~, which for plain SGD is option II and needs no learning rate; with
momentum, weight decay or clipping it stays the mean gradient. Models are averaged by the aggregator of the run (the
paper: FedAvg with a server step of 1). A site that does not take part keeps its c_k. The paper's P_k are 1 / N, which
is ``weighting: uniform``; P_k counts sites as the average of their models does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.control_variates import ControlVariates
from fedlight.plugins.sharpness import SharpnessAware, sam_perturbation
from fedlight.state import State, zip_map
from fedlight.update import Broadcast


class FedGAMMA(ControlVariates, SharpnessAware):
    """Takes SAM's gradient and corrects it by how the site differs from the federation.

    Args:
        rho: Radius of the ball; 0 leaves SCAFFOLD.
        control: Strength of the correction, 1 in the paper; 0 leaves FedSAM, and with rho 0 it gives FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"rho": 0.0, "control": 0.0}

    def __init__(self, rho: float = 0.1, control: float = 1.0) -> None:
        self.rho = rho
        self.control = control
        self._own: State = {}

    def validate(self) -> None:
        super().validate()
        if not self.control >= 0:
            raise ValueError(f"control must not be negative, got {self.control}. The paper's correction is 1.")

    def active(self) -> bool:
        return self.control > 0

    def perturbation(self, params: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return sam_perturbation(gradients, self.rho)

    # --- at the site -------------------------------------------------------------------------------------------

    def wrap_optimizer(self, optimizer: Optimizer) -> Optimizer:
        if self.control and not isinstance(optimizer, SGD):
            raise ValueError(
                f"the local optimizer must be SGD, got {type(optimizer).__name__}: adaptive step sizes distort the "
                "control variates. Use torch.optim.SGD, or FedSAM."
            )
        return optimizer

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        super().on_round_start(site, module, broadcast)
        self._shared = {name: p for name, p in module.named_parameters() if name in broadcast.params}
        zeros = {name: torch.zeros_like(p) for name, p in broadcast.params.items()}
        server = broadcast.shared.get(self.instance_id) or zeros
        self._own = self._own or zeros
        self._correction = zip_map(torch.sub, server, self._own)  # c - c_k
        self._gradients: State = {}
        self._steps = 0

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        if not self.control:
            return
        self._steps += 1
        for name, p in self._shared.items():
            if p.grad is None:
                continue
            self._gradients[name] = self._gradients.get(name, torch.zeros_like(p.grad)) + p.grad
            self._correction[name] = self._correction[name].to(p.device)  # by now the Trainer has moved the module
            p.grad = p.grad + self.control * self._correction[name]

    def on_round_end(self, module: LightningModule) -> Statistics:
        super().on_round_end(module)
        del self._shared, self._correction
        if not self._steps:
            return {}
        mean = {name: (total / self._steps).cpu() for name, total in self._gradients.items()}
        new = {name: mean.get(name, old) for name, old in self._own.items()}
        change = zip_map(torch.sub, new, self._own)
        self._own = new
        return change

    def state_dict(self) -> dict[str, Any]:
        return {"own": dict(self._own)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._own = dict(state["own"])
