"""FedADG: features of every class look like those of one learned reference (Zhang et al., arXiv 2111.10487).

A generator makes features of each class out of noise: the reference distribution. At every site a discriminator tells
them from the site's own features; the network learns to be taken for the reference and the generator to be taken for
the site, so that the sites, which share the generator, meet half-way. All terms are least squares.

    D_k:  min  mean (1 - D(G(eps, y), y))^2 + D(h, y)^2        h: mean features of the pixels of class y in an image
    w:    min  F_k(w) + weight r_t mean (1 - D(h, y))^2
    G:    min  mean D(G(eps, y), y)^2                          eps ~ U(0, 1), one for every h
    server: w and G are averaged; D_k stays at the site

G and D are networks of one hidden layer, told y as one-hot numbers. D sees features through a fixed random projection.
In every step D moves first, then the network (with everything else), then G. r_t is the ramp.

Shared: G, 4 ((e + K + 1) H + (H + 1) d) bytes: with noise e = 16, H = 128 hidden, K = 3 classes and the default
network's bottleneck (d = 128) 76288 bytes up and 76288 down with four sites. Privacy: G imitates the class features of
all sites. Secure aggregation: yes, G is averaged like the network. Cost: 1.00 times FedAvg's time. Settings that
matter: ``weight``, ``lr`` and ``ramp``; adversarial training needs care, and methods of this kind have been reported
not to converge in federations. The other alignments say more for less.

Released code: one-hot entries are 0.7, and the projection's initial scale is overwritten.

Deviations: the paper weighs the task by 0.85 and the alignment by 0.15; the default here is their ratio. It trains the
network alone for five epochs first; here the ramp does that, while D and G learn from the first step. It classifies
whole images; here an image has an h for each of its classes, absent ones left out. G ends without a ReLU, because not
every encoder's features are positive. D and G are trained by Adam, with a fresh state every round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from fedlight.plugins import Alignment, Batch, Step
from fedlight.plugins.alignment import full_precision, require_weight
from fedlight.plugins.alignment import ramp as ramped
from fedlight.plugins.averaging import AveragingPlugin
from fedlight.plugins.class_features import class_weights, embeddings, number_of_classes
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure
from fedlight.randomness import seeded
from fedlight.update import Broadcast


class FedADG(AveragingPlugin, Alignment):
    """Makes class features look like those of a generator that all sites share.

    Args:
        weight: Strength of the alignment; 0 gives FedAvg.
        ramp: Share of the rounds over which the strength grows from 0 to ``weight``.
        stage: Where features are aligned.
        lr: Learning rate of generator and discriminator.
        noise: Random numbers that the generator gets for one feature vector.
        hidden: Width of generator, discriminator and projection.
    """

    null: ClassVar[Mapping[str, Any]] = {"weight": 0.0}

    def __init__(
        self,
        weight: float = 0.18,
        ramp: float = 0.1,
        stage: str = "bottleneck",
        lr: float = 0.001,
        noise: int = 16,
        hidden: int = 128,
    ) -> None:
        self.weight = weight
        self.ramp = ramp
        self.stage = stage
        self.lr = lr
        self.noise = noise
        self.hidden = hidden
        self.stages = (stage,)
        self._discriminator: dict[str, Tensor] = {}

    def validate(self) -> None:
        require_weight(self.weight, self.ramp)
        for name, value in (("lr", self.lr), ("noise", self.noise), ("hidden", self.hidden)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}. To switch the alignment off, use weight=0.")

    def discloses(self) -> Disclosure | None:
        if not self.weight:
            return None
        return Disclosure(f"the parameters of a generator of class features at {self.stage}", "none")

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        self._strength = self.weight * ramped(broadcast.context, self.ramp)
        self._seed = broadcast.context.seed
        self._reference = broadcast.shared.get(self.instance_id, {})
        self._game: Game | None = None

    def transform_batch(self, batch: Batch) -> Batch:
        self._due = True
        return batch

    def penalty(self, step: Step) -> Tensor | None:
        if not self.weight or not bool(step.valid.any()):
            return None
        x, classes = step.features[self.stage], number_of_classes(step.logits)
        with full_precision(x):
            weights = class_weights(step.masks, step.valid, classes, (x.shape[-2], x.shape[-1]))
            each, counts = embeddings(x, weights)
            image, label = (counts > 0).nonzero(as_tuple=True)
            h, y = each[image, label], F.one_hot(label, classes).float()  # (n, C), (n, K)
            game = self._opened(h, y)
            noise = torch.rand(len(h), self.noise, generator=self.generator).to(h.device)
            if self._due:  # once a batch, also where another plugin repeats the pass
                game.train_discriminator(h.detach(), y, noise)
            fooled = taken_for_reference(game.discriminator(h, y))
            if self._due:
                game.train_generator(y, noise)
            self._due = False
            return self._strength * fooled if self._strength else None

    def _opened(self, h: Tensor, y: Tensor) -> Game:
        if self._game is None:
            with seeded(self._seed, self.instance_id, "generator and discriminator"):  # the same at all sites
                game = Game(h.shape[1], y.shape[1], self.noise, self.hidden)
            if self._reference:
                game.generator.load_state_dict(self._reference)
            if self._discriminator:
                game.discriminator.load_state_dict(self._discriminator)
            self._game = game.ready(h.device, self.lr)
        return self._game

    def on_round_end(self, module: LightningModule) -> Statistics:
        game, self._game, self._reference = self._game, None, {}
        if game is None:
            return {}
        self._discriminator = {name: value.detach().cpu() for name, value in game.discriminator.state_dict().items()}
        return {name: value.detach().cpu() for name, value in game.generator.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": dict(self._discriminator)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._discriminator = dict(state["discriminator"])


class Discriminator(nn.Module):
    """Says how far features are taken for the reference's, from 0 to 1."""

    projection: Tensor

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(channels, hidden) / channels**0.5)
        self.layers = nn.Sequential(nn.Linear(hidden + classes, hidden), nn.LeakyReLU(), nn.Linear(hidden, 1))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """Returns (n, 1) for features (n, C) and one-hot classes (n, K)."""
        says: Tensor = self.layers(torch.cat([h @ self.projection, y], 1))
        return says.sigmoid()


class Game:
    """Generator and discriminator of one site in one round, with their optimizers."""

    def __init__(self, channels: int, classes: int, noise: int, hidden: int) -> None:
        self.generator = nn.Sequential(nn.Linear(noise + classes, hidden), nn.LeakyReLU(), nn.Linear(hidden, channels))
        self.discriminator = Discriminator(channels, classes, hidden)

    def ready(self, device: torch.device, lr: float) -> Game:
        """Moves both to a device and makes their optimizers."""
        self.generator.to(device)
        self.discriminator.to(device)
        self._of_generator = torch.optim.Adam(self.generator.parameters(), lr=lr)
        self._of_discriminator = torch.optim.Adam(self.discriminator.parameters(), lr=lr)
        return self

    def train_discriminator(self, h: Tensor, y: Tensor, noise: Tensor) -> None:
        """Takes a step of D towards telling the reference from the site's features."""
        with torch.no_grad():
            reference = self.generator(torch.cat([noise, y], 1))
        loss = taken_for_reference(self.discriminator(reference, y)) + taken_for_site(self.discriminator(h, y))
        _step(self._of_discriminator, loss)

    def train_generator(self, y: Tensor, noise: Tensor) -> None:
        """Takes a step of G towards being taken for the site."""
        reference = self.generator(torch.cat([noise, y], 1))
        _step(self._of_generator, taken_for_site(self.discriminator(reference, y)))


def taken_for_reference(says: Tensor) -> Tensor:
    """Returns mean (1 - D)^2, 0 where everything is taken for the reference."""
    return (1 - says).square().mean()


def taken_for_site(says: Tensor) -> Tensor:
    """Returns mean D^2, 0 where everything is taken for the site's own."""
    return says.square().mean()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step on its own parameters; nothing else gets a gradient."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for p, gradient in zip(params, torch.autograd.grad(loss, params), strict=True):
        p.grad = gradient
    optimizer.step()
