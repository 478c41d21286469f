"""MOON: features stay close to the global model's and away from the site's last ones (Li et al., arXiv 2103.16257).

Averaging makes better features than a site alone, so a site's features are pulled to those of the model of the round
and pushed from those of the model that the site ended its last round with.

    l_con = -log( e^(cos(z, z_glob) / tau) / (e^(cos(z, z_glob) / tau) + e^(cos(z, z_prev) / tau)) )    (equation 3)
    l     = F_k(w) + mu l_con, a mean over the images of a batch                                        (equation 4)

z, z_glob, z_prev: features of an image at a stage of the network under w, the model of the round and the site's last
model, averaged over valid places; the last two carry no gradient.

Shared: nothing. A site keeps its last model (2 MB for 493 thousand parameters) and, during a round, that of the round.
Privacy: as FedAvg. Secure aggregation: yes. Cost: three passes forward and one backward, 1.63 times FedAvg's time.
Settings that matter: ``mu``; the paper chooses among 0.1, 1, 5 and 10.

Deviations: the paper puts a projection head of two layers behind the encoder and takes its output for z; here z are the
encoder's own features, so that the network stays as it is. In a site's first round there is no last model and no
penalty; the authors' code compares with the initial one. z is from the training pass, restyled where a style plugin
works, the other two are from plain passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import ClientPlugin, Step
from fedlight.plugins.client_plugin import Statistics
from fedlight.state import State, buffers_of, parameters_of
from fedlight.statistics import channel_moments
from fedlight.update import Broadcast


class MOON(ClientPlugin):
    """Contrasts a site's features with those of the model of the round and of the site's last model.

    Args:
        mu: Strength of the contrast; 0 gives FedAvg.
        tau: Temperature; small values make similar features weigh more.
        stage: Whose features are compared.
    """

    needs_shared = True
    null: ClassVar[Mapping[str, Any]] = {"mu": 0.0}

    def __init__(self, mu: float = 1.0, tau: float = 0.5, stage: str = "bottleneck") -> None:
        self.mu = mu
        self.tau = tau
        self.stage = stage
        self.stages = (stage,)
        self._last: State = {}

    def validate(self) -> None:
        if not self.mu >= 0:
            raise ValueError(f"mu must not be negative, got {self.mu}. 0 gives FedAvg.")
        if not self.tau > 0:
            raise ValueError(f"tau must be positive, got {self.tau}. The paper uses 0.5.")

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._round = _model(module) if self.mu else {}

    def penalty(self, step: Step) -> Tensor | None:
        if not self.mu or not self._last:
            return None
        self._round = _moved(self._round, step.images.device)
        self._last = _moved(self._last, step.images.device)
        with torch.no_grad():
            z_round, z_last = (
                self._pooled(step.forward(step.images, model).features, step) for model in (self._round, self._last)
            )
        return self.mu * contrast(self._pooled(step.features, step), z_round, z_last, self.tau)

    def _pooled(self, features: Mapping[str, Tensor], step: Step) -> Tensor:
        return channel_moments(features[self.stage], step.valid)[0].flatten(1)  # (N, C)

    def on_round_end(self, module: LightningModule) -> Statistics:
        self._last = _moved(_model(module), torch.device("cpu")) if self.mu else {}
        self._round = {}
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"last": dict(self._last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._last = dict(state["last"])


def contrast(z: Tensor, z_round: Tensor, z_last: Tensor, tau: float) -> Tensor:
    """Computes l_con, a scalar, for features (N, C)."""
    similar = torch.stack([F.cosine_similarity(z, other, dim=1, eps=1e-4) for other in (z_round, z_last)], 1)  # (N, 2)
    return F.cross_entropy(similar / tau, torch.zeros(len(z), dtype=torch.int64, device=z.device))


def _model(module: LightningModule) -> State:
    """Parameters and buffers: a pass with these leaves the module's own running statistics alone."""
    return {**parameters_of(module), **buffers_of(module)}


def _moved(model: State, device: torch.device) -> State:
    return {name: value.to(device) for name, value in model.items()}
