"""FedSR: a simple representation, a random latent that says little beyond the class (Nguyen et al., NeurIPS 2022).

Features become random, z ~ q(z|x), and two terms keep them simple: one holds them short, the other bounds what they
tell about the image once the class is known, so that less of a site's style gets through.

    z = mu + sigma eps            mu(x): features of a stage; sigma = softplus(W mu + b); eps ~ N(0, 1)
    l = F_k(w) + alpha_l2 E ||z||^2 + alpha_cmi E KL( N(mu, sigma^2) || N(r_y, s_y^2) )            s = softplus(.)
    KL = sum_d log(s / sigma) + (sigma^2 + (mu - r)^2) / (2 s^2) - 1/2

For segmentation every place of the bottleneck has a latent of its own: E is a mean over valid places, and a place in
which several classes meet counts for each of them by its pixels. Evaluation uses z = mu. Gaussian latents under a bound
on their information are the deep variational information bottleneck's (Alemi et al., arXiv 1612.00410).

Shared: W, b and r, s of every class, averaged like the network, 4 (d^2 + d + 2 K d) bytes: with K = 3 classes and the
default network's bottleneck (d = 128) 69120 bytes up and 69120 down with four sites. Privacy: r and s are learned class
means and spreads of features, W and b parameters. Secure aggregation: yes, only the mean is needed. Cost: 1.05 times
FedAvg's time at the bottleneck. Settings that matter: both alphas, 0.01 and 0.001 in the released code; features of a
segmentation network may need less.

Released code: it takes the length ||z|| where the paper squares it, which is ``variant: released``; it also scales mu
and sigma by a learned number in the second term and averages 20 samples at test time, which are left out.

Deviations: the paper's network gives mu and sigma of one latent an image, from a layer made for it; here mu is what the
network has and sigma a linear map of it that starts near 0.13, so that training starts near FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from fedlight.plugins import Alignment, Batch, Step
from fedlight.plugins.alignment import full_precision
from fedlight.plugins.averaging import AveragingPlugin
from fedlight.plugins.class_features import class_weights, number_of_classes
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.update import Broadcast


class FedSR(AveragingPlugin, Alignment):
    """Makes features random and bounds their length and what they tell beyond the class.

    Args:
        alpha_l2: Strength of the bound on the length.
        alpha_cmi: Strength of the bound on the information; with both 0 features stay as they are, which is FedAvg.
        stage: Whose features become random.
        variant: "paper" squares the length, "released" does not.
    """

    null: ClassVar[Mapping[str, Any]] = {"alpha_l2": 0.0, "alpha_cmi": 0.0}

    def __init__(
        self,
        alpha_l2: float = 0.01,
        alpha_cmi: float = 0.001,
        stage: str = "bottleneck",
        variant: Literal["paper", "released"] = "paper",
    ) -> None:
        self.alpha_l2 = alpha_l2
        self.alpha_cmi = alpha_cmi
        self.stage = stage
        self.variant = variant
        self.stages = (stage,)

    def validate(self) -> None:
        for name, value in (("alpha_l2", self.alpha_l2), ("alpha_cmi", self.alpha_cmi)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}. With both 0 a run is FedAvg's.")

    def discloses(self) -> Disclosure | None:
        if not (self.alpha_l2 or self.alpha_cmi):
            return None
        return Disclosure(f"the parameters of the features' distribution at {self.stage}", "none")

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._start = broadcast.shared.get(self.instance_id, {})
        self._learned: dict[str, Tensor] = {}
        self._optimizer: Optimizer | None = None
        self._latent: tuple[Tensor, ...] = ()  # z, mu, sigma of the pass

    def wrap_optimizer(self, optimizer: Optimizer) -> Optimizer:
        self._optimizer = optimizer
        return optimizer

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        if not self.alpha_l2 and not self.alpha_cmi:
            return x
        d = x.shape[1]
        noise = torch.randn(x.shape, generator=self.generator).to(x.device)
        with full_precision(x):
            weight = self._parameter("sigma/weight", torch.zeros(d, d), x)
            bias = self._parameter("sigma/bias", torch.full((d,), -2.0), x)
            mean = x.float()
            sigma = F.softplus(F.conv2d(mean, weight[:, :, None, None], bias))
            z = mean + sigma * noise
        self._latent = z, mean, sigma
        return z.to(x.dtype)

    def penalty(self, step: Step) -> Tensor | None:
        if (not self.alpha_l2 and not self.alpha_cmi) or not bool(step.valid.any()):
            return None
        (z, mean, sigma), classes = self._latent, number_of_classes(step.logits)
        with full_precision(z):
            weights = class_weights(step.masks, step.valid, classes, (z.shape[-2], z.shape[-1]))
            r = self._parameter("class/mean", torch.zeros(classes, z.shape[1]), z)
            s = F.softplus(self._parameter("class/spread", torch.ones(classes, z.shape[1]), z))
            square = z.square().sum(1, keepdim=True)  # (N, 1, h, w)
            long = square if self.variant == "paper" else (square + 1e-12).sqrt()
            informed = torch.stack([divergence(mean, sigma, r[c], s[c]) for c in range(classes)], 1)  # (N, K, h, w)
            total = (weights * (self.alpha_l2 * long + self.alpha_cmi * informed)).sum()
            return total / weights.sum()

    def _parameter(self, name: str, initial: Tensor, like: Tensor) -> Tensor:
        """Returns what is learned under a name: as broadcast or, before that, as given; the optimizer trains it."""
        if name not in self._learned:
            value = self._start.get(name, initial).to(like.device, torch.float32)
            self._learned[name] = value.clone().requires_grad_()
            if self._optimizer is not None:
                rate = self._optimizer.param_groups[0]["lr"]
                self._optimizer.add_param_group({"params": [self._learned[name]], "lr": rate})
        return self._learned[name]

    def on_round_end(self, module: LightningModule) -> Statistics:
        learned, self._learned, self._start, self._optimizer = self._learned, {}, {}, None
        self._latent = ()
        return {name: value.detach().cpu() for name, value in learned.items()}


def divergence(mean: Tensor, sigma: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """Returns KL( N(mean, sigma^2) || N(r, s^2) ), summed over channels.

    Args:
        mean: (N, C, h, w).
        sigma: (N, C, h, w), positive.
        r: (C,).
        s: (C,), positive.

    Returns:
        (N, h, w).
    """
    r, s = r[:, None, None], s[:, None, None]
    each = (s / sigma).log() + (sigma.square() + (mean - r).square()) / (2 * s.square()) - 0.5
    return each.sum(1)
