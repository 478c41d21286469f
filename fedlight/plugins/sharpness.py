"""Gradients that are taken where the loss is higher nearby: what sharpness-aware methods share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from fedlight.plugins.client_plugin import ClientPlugin, Statistics
from fedlight.update import Broadcast


class SharpnessAware(ClientPlugin):
    """Takes the gradient at w + eps and lets the optimizer step from w.

    The pass at w uses the same batch, the same styles and every penalty. Clipping, gradient hooks and the optimizer
    see the gradient at w + eps only, so they work as without this plugin, in every precision. Dropout draws anew, and
    running statistics and statistics that plugins collect see both passes.
    """

    rho: float

    @abstractmethod
    def perturbation(self, params: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Returns eps, one tensor for every parameter, from the gradients at w."""

    def validate(self) -> None:
        if not self.rho >= 0:
            raise ValueError(f"rho must not be negative, got {self.rho}. 0 takes the gradient where the model is.")

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._names, self._params = list(named), list(named.values())
        self._origin: list[Tensor] = []

    def descend(self, loss: Tensor, again: Callable[[], Tensor]) -> Tensor:
        if not self.rho:
            return loss
        found = torch.autograd.grad(loss, self._params, allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(self._params, found, strict=True)]
        with torch.no_grad():
            self._origin = [p.clone() for p in self._params]
            for p, eps in zip(self._params, self.perturbation(self._params, gradients), strict=True):
                p.add_(eps)
        torch.clear_autocast_cache()  # it may hold half-precision copies of the parameters at w
        return again()

    def on_after_backward(self, trainer: Trainer, module: LightningModule) -> None:
        self._return()

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._return()
        del self._names, self._params
        return {}

    @torch.no_grad()
    def _return(self) -> None:
        for p, origin in zip(self._params, self._origin, strict=False):
            p.copy_(origin)
        self._origin = []


def length(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the Euclidean norm of all tensors laid end to end, never 0 so that it can be divided by."""
    norms = torch.stack([tensor.float().norm() for tensor in tensors])
    total: Tensor = norms.norm()
    return total.clamp_min(1e-12)


def sam_perturbation(gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """Returns eps = rho g / ||g||, with one norm over all tensors (SAM, arXiv 2010.01412, equation 2 with p = 2)."""
    scale = rho / length(gradients)
    return [scale * gradient for gradient in gradients]
