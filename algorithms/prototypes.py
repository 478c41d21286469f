"""Prototypes: features of a class gather round the federation's mean of that class (FPL, Huang et al., CVPR 2023).

The mean feature of a class over all sites carries no site's style. Every site pulls the mean feature of each class in
each of its images to that prototype, in direction (InfoNCE, arXiv 1807.03748) and in value (a squared distance).

    e_ic      mean feature of the valid pixels of class c in image i        (masked average pooling)
    l_nce   = mean_ic -log( e^(cos(e_ic, p_c) / tau) / sum_c' e^(cos(e_ic, p_c') / tau) )
    l_mse   = mean_ic ||e_ic - p_c||^2 / d
    at the sites    l = F_k(w) + weight r_t (l_nce + l_mse)
    at the server   p_c = sum_k n_kc p_kc / sum_k n_kc        p_kc over all n_kc pixels of class c in the round

Classes that an image, a site or the reference lacks are left out; a class that no site saw keeps its prototype. The
reference is of the round before, without gradient. r_t is the ramp.

Shared: mean features of every class and their numbers of pixels, 4 K (d + 1) bytes; K = 3 classes at the default
network's bottleneck (d = 128) make 1548 bytes up and 1548 down with four sites. Privacy: the mean feature of a class
and how many pixels it has; where one case alone shows a class they are that case's. Secure aggregation: yes, n_kc p_kc
and n_kc are summed. Cost: 1.01 times FedAvg's time. Settings that matter: ``weight``, ``tau``, ``stage``.

Released code: FPL's squared distance is to the mean of clusters, unweighted.

Deviations: FPL (FedProto before it, arXiv 2105.00243, with the squared distance alone) classifies whole images; here an
image has an embedding for each of its classes. FPL clusters the sites' prototypes with FINCH, for which the server must
see every one of them, and contrasts with the clusters; here there is one prototype a class. Weight 1 and tau 0.02 are
FPL's; the weight here starts lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Alignment, Step
from fedlight.plugins.alignment import full_precision, require_weight
from fedlight.plugins.alignment import ramp as ramped
from fedlight.plugins.class_features import class_weights, embeddings, number_of_classes
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.update import Broadcast, RoundContext


class Prototypes(Alignment):
    """Pulls the mean features of every class towards the federation's prototype of that class.

    Args:
        weight: Strength of the alignment; 0 gives FedAvg.
        ramp: Share of the rounds over which the strength grows from 0 to ``weight``.
        stage: Where features are aligned.
        tau: Temperature of the contrast between classes.
    """

    linear = True
    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def __init__(self, weight: float = 0.1, ramp: float = 0.1, stage: str = "bottleneck", tau: float = 0.02) -> None:
        self.weight = weight
        self.ramp = ramp
        self.stage = stage
        self.tau = tau
        self.stages = (stage,)

    def validate(self) -> None:
        require_weight(self.weight, self.ramp)
        if not self.tau > 0:
            raise ValueError(f"tau must be positive, got {self.tau}. The paper uses 0.02.")

    def discloses(self) -> Disclosure | None:
        if not self.weight:
            return None
        return Disclosure(
            f"mean feature of every class at {self.stage}, and its number of pixels",
            "mean over all pixels of a class that the site saw in a round, however few",
            "mean features of single classes, which are one case's where no other shows the class",
        )

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._strength = self.weight * ramped(broadcast.context, self.ramp)
        self._reference = broadcast.shared.get(self.instance_id, {})
        self._seen: list[tuple[Tensor, Tensor]] = []

    def penalty(self, step: Step) -> Tensor | None:
        if not self.weight or not bool(step.valid.any()):
            return None
        x, classes = step.features[self.stage], number_of_classes(step.logits)
        with full_precision(x):
            weights = class_weights(step.masks, step.valid, classes, (x.shape[-2], x.shape[-1]))
            each, counts = embeddings(x, weights)  # (N, K, C), (N, K)
            self._seen.append(fuse(each.detach(), counts))
            if not self._reference:
                return None
            prototypes, known = (self._reference[name].to(x.device) for name in ("prototypes", "counts"))
            image, label = ((counts > 0) & (known > 0)).nonzero(as_tuple=True)
            if not len(label):
                return None
            return self._strength * pull(each[image, label], label, prototypes, known > 0, self.tau)

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._reference = self._seen, [], {}
        if not seen:
            return {}
        prototypes, counts = fuse(*(torch.stack(values) for values in zip(*seen, strict=True)))
        return {"prototypes": prototypes.cpu(), "counts": counts.cpu()}

    def summand(self, shared: Statistics, weight: float, reference: Statistics) -> tuple[Statistics, float]:
        counts = shared["counts"].double()
        return {"prototypes": counts[:, None] * shared["prototypes"].double(), "counts": counts}, 1.0

    def of_mean(self, mean: Statistics, total: float, reference: Statistics) -> Statistics:
        counts = mean["counts"]
        known = mean["prototypes"] / counts.clamp_min(1e-6)[:, None]
        return {"prototypes": torch.where(counts[:, None] > 0, known, 0.0), "counts": total * counts}

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._sites: list[Statistics] = []

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        self._sites.append(shared)

    def finish(self) -> Statistics:
        if not self._sites:
            return self._previous
        prototypes, counts = fuse(*(torch.stack([s[name] for s in self._sites]) for name in ("prototypes", "counts")))
        if self._previous:
            missing = counts == 0
            prototypes = torch.where(missing[:, None], self._previous["prototypes"], prototypes)
            counts = torch.where(missing, self._previous["counts"], counts)
        return {"prototypes": prototypes, "counts": counts}


def fuse(prototypes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Averages prototypes (M, K, C) of M images, batches or sites by counts (M, K): (K, C) and (K,); absent ones 0."""
    weights = counts.double()
    total = weights.sum(0)
    mean = (weights[:, :, None] * prototypes.double()).sum(0) / total.clamp_min(1e-6)[:, None]
    return mean.to(prototypes.dtype), total.to(counts.dtype)


def pull(queries: Tensor, labels: Tensor, prototypes: Tensor, known: Tensor, tau: float) -> Tensor:
    """Computes l_nce + l_mse.

    Args:
        queries: (n, C), with gradient.
        labels: (n,), int64.
        prototypes: (K, C).
        known: (K,), bool; the others are not contrasted with.
        tau: Temperature.
    """
    similar = F.cosine_similarity(queries[:, None], prototypes[None], dim=2, eps=1e-4) / tau  # (n, K)
    contrast = F.cross_entropy(similar.masked_fill(~known, float("-inf")), labels)
    return contrast + F.mse_loss(queries, prototypes[labels])
