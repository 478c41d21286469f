"""ELCFS: episodic learning in continuous frequency space (FedDG, Liu et al., arXiv 2103.06030, section 3).

Every step trains on an image and asks that what was learned from it also works on the image in another site's style,
and that the boundary of what is segmented is told from its surroundings in both.

    x'     = F^-1(A' exp(i P(x)))     A' = (1 - lambda) A(x) + lambda A_s where |k_y|, |k_x| <= b,   lambda ~ U(0, 1)
    theta' = theta - beta grad L_seg(x; theta)                                              the inner step
    min_theta  L_seg(x; theta) + weight (L_seg(x'; theta') + gamma L_boundary(x, x'; theta'))
    L_boundary = - mean over pairs (m, p) of one kind of log s_mp / (s_mp + sum_q s_mq)      s_mp = e^(h_m h_p / tau)

h are unit embeddings, the mean feature over a contour (mask minus its erosion) or over the ring around it (dilation
minus mask), of every image in both styles; q runs over those of the other kind. Each class has a sum of its own.

Shared: the mean amplitude of a site's images in half a window, C (2b+1) (b+1) numbers; colour images of 64 pixels (b =
6) make 1092 bytes up and 4368 down with four sites; ``per_image`` makes it ``bank_size`` times as much. Privacy: a mean
over at least ``min_images`` images. The paper's bank of amplitudes of single images nearly determines these images;
``per_image`` must be asked for, sends its window only, and warns. Secure aggregation: no, the server keeps every site's
amplitudes apart. Cost: a second pass and gradients through a gradient, 4.65 times FedAvg's time; without
``second_order`` about 3 times. Settings that matter: ``window``, ``weight``.

Released code: it does not parse (a bracket is missing); it runs with b = 0 and lambda = 1, which only replaces a
channel's mean and is refused here but under ``released``; it makes two styles and trains on one; the inner gradient is
clipped at 100 and taken as a constant, which is ``second_order`` off; it scores the unseen site in every round.

Deviations: L_seg is the task's own loss, not Dice alone. The default bank holds a site's mean, not its images, so there
is one A_s a site; ``spread`` draws around it. Contours and rings are square neighbourhoods of 1 and 5 pixels, the
authors' sizes at 384 pixels. In L_boundary, embeddings of x are those of the inner step's pass, under theta, as in the
released code, which saves a pass. What is not valid does not count and keeps its values. The first round is FedAvg's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.plugins import Batch, Step
from fedlight.plugins.amplitude import mix, spectrum_of
from fedlight.plugins.amplitude_bank import AmplitudeBank
from fedlight.plugins.boundary import boundary_contrast, boundary_regions, region_embeddings
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.state import State
from fedlight.update import Broadcast


class ELCFS(AmplitudeBank):
    """Asks that a step on images also helps on the same images in other sites' styles, boundaries above all.

    Args:
        weight: Of the outer objective; 0 gives FedAvg.
        beta: Length of the inner step.
        gamma: Weight of the boundary term in the outer objective.
        tau: Temperature of the boundary term.
        window: Half-width of the window as a share of the shorter side, in (0, 0.5).
        spread: How far amplitudes are drawn around a site's mean; 0 takes the mean itself.
        stage: Where embeddings are taken; "decoder" is what the head gets.
        contour: Width of a contour in pixels.
        ring: Width of the ring around it in pixels.
        second_order: Whether the inner gradient depends on the parameters (as written) or is a constant (as released).
        released: Does as the authors' code: b = 0 and lambda = 1, and the inner gradient is a constant.
        per_image: Whether sites give away amplitudes of single images.
        bank_size: Images whose amplitudes a site gives away; only with ``per_image``.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = False
    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def __init__(
        self,
        weight: float = 1.0,
        beta: float = 1e-3,
        gamma: float = 0.1,
        tau: float = 0.05,
        window: float = 0.1,
        spread: float = 0.0,
        stage: str = "decoder",
        contour: int = 1,
        ring: int = 5,
        second_order: bool = True,
        released: bool = False,
        per_image: bool = False,
        bank_size: int = 16,
        min_images: int = 5,
    ) -> None:
        self.weight = weight
        self.beta = beta
        self.gamma = gamma
        self.tau = tau
        self.window = window
        self.spread = spread
        self.stage = stage
        self.contour = contour
        self.ring = ring
        self.second_order = second_order
        self.released = released
        self.per_image = per_image
        self.bank_size = bank_size
        self.min_images = min_images

    @property
    def stages(self) -> tuple[str, ...]:  # type: ignore[override]  # decided by another argument
        """Where embeddings are taken."""
        return (self.stage,)

    def active(self) -> bool:
        return self.weight > 0

    def half_width(self, height: int, width: int) -> int:
        return 0 if self.released else super().half_width(height, width)

    def validate(self) -> None:
        super().validate()
        for name, default in (("weight", 1), ("beta", 0.001), ("gamma", 0.1)):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}. The paper uses {default}.")
        if not self.tau > 0:
            raise ValueError(f"tau must be positive, got {self.tau}. The paper uses 0.05.")
        for name in ("contour", "ring", "bank_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}. Use 1 or more.")
        if self.per_image and self.spread:
            raise ValueError(f"spread must be 0 with per_image, got {self.spread}: images have no spread. Use 0.")
        if self.weight and self.per_image:
            warnings.warn(
                "ELCFS with per_image sends amplitudes of single patients' images to every site, from which images can "
                "partly be recovered; leave it out to share one mean amplitude a site",
                stacklevel=2,
            )

    def discloses(self) -> Disclosure | None:
        known = super().discloses()
        if known is None or not self.per_image:
            return known
        beyond = f"amplitudes of {self.bank_size} single images"
        return replace(known, protection="low-frequency window only", beyond=beyond)

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        super().on_round_start(site, module, broadcast)
        self._params = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def transform_batch(self, batch: Batch) -> Batch:
        """Measures amplitudes; images stay as they are."""
        if self.active():
            self.measure(spectrum_of(batch["image"], batch["valid"]), batch)
        return batch

    def penalty(self, step: Step) -> Tensor | None:
        if not self.active() or not self._donors or not bool(step.valid.any()):
            return None
        outer = step.forward(self._stylised(step.images, step.valid), self._inner_step(step.loss))
        segmentation = step.criterion(outer.logits, step.masks, step.valid)
        features = torch.stack([step.features[self.stage], outer.features[self.stage]])  # (2, N, C, h, w)
        boundary = self._boundary(features, step.masks, step.valid)
        return self.weight * (segmentation + self.gamma * boundary)

    def _stylised(self, images: Tensor, valid: Tensor) -> Tensor:
        size = (images.shape[-2], images.shape[-1])
        share = torch.rand(len(images), generator=self.generator).to(images.device)
        share = torch.ones_like(share) if self.released else share
        others = self.drawn(len(images)).to(images.device)
        styled = mix(spectrum_of(images, valid), others, share, self.half_width(*size), size)
        return torch.where(valid[:, None], styled.to(images.dtype), images)

    def _inner_step(self, loss: Tensor) -> State:
        follow = self.second_order and not self.released
        gradients = torch.autograd.grad(
            loss, list(self._params.values()), retain_graph=True, create_graph=follow, allow_unused=True
        )
        both = zip(self._params.items(), gradients, strict=True)
        return {name: p if g is None else p - self.beta * g for (name, p), g in both}

    def _boundary(self, features: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """The boundary term of every class that is there, summed; features are (2, N, C, h, w), both styles."""
        total = features.new_zeros((), dtype=torch.float32)
        with torch.autocast(features.device.type, enabled=False):  # similarities are divided by a small tau
            for label in torch.unique(masks[valid & (masks > 0)]).tolist():
                regions = boundary_regions(((masks == label) & valid)[:, None].float(), self.contour, self.ring)
                embeddings, kinds = region_embeddings(features.float(), regions * valid[None, :, None])
                total = total + boundary_contrast(embeddings, kinds, self.tau)
        return total

    # --- the bank of single images, if it was asked for ---------------------------------------------------------

    def summarise(self, amplitudes: Tensor) -> Statistics:
        if not self.per_image:
            return super().summarise(amplitudes)
        order = torch.randperm(len(amplitudes), generator=self.generator)
        rows = order[torch.arange(self.bank_size) % len(amplitudes)]
        return {"amplitude": amplitudes[rows.to(amplitudes.device)]}

    def drawn(self, n: int) -> Tensor:
        amplitudes = super().drawn(n)
        if not self.per_image:
            return amplitudes
        return amplitudes[torch.arange(n), torch.randint(self.bank_size, (n,), generator=self.generator)]
