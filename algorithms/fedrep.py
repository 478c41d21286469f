"""FedRep: a shared representation under heads of the sites' own (Collins et al., arXiv 2102.07078, Algorithm 1).

As FedPer, but a site first fits its head to the body that it was sent and only then trains the body under that head, so
the body's gradient is that of a head which suits it.

    head^k <- steps on F_k(body_t, .)          the first head_share of the round's steps
    body^k <- steps on F_k(., head^k)          the others
    body   <- sum_k p_k body^k

An institution that took no part is scored with every site's head, with their weighted mean, and with the mean of what
the sites' models say.

Shared: nothing; of the model, the head stays, 1740 bytes less each way with the default network and three classes.
Privacy: the head never leaves the site. Secure aggregation: yes. Cost: 1.00 times FedAvg's time. Settings that matter:
``parts`` and ``head_share``.

Deviations: the paper takes so many head epochs before each body epoch (10 before 1 in its experiments); here a round
has as many steps as FedAvg's, and a share of them is the head's. Whatever the optimizer does is confined to the part
whose turn it is, weight decay and momentum too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from fedlight.plugins import ClientPlugin
from fedlight.plugins.parts import named


class FedRep(ClientPlugin):
    """Keeps named parts of the network at the site and trains them first, then the rest.

    Args:
        parts: Regular expressions: parameters in whose name one is found are the head; none at all gives FedAvg.
        head_share: Share of a round's steps that are the head's, in (0, 1).
    """

    null: ClassVar[Mapping[str, Any]] = {"parts": ()}

    def __init__(self, parts: Sequence[str] = ("head",), head_share: float = 0.5) -> None:
        self.parts = parts
        self.head_share = head_share

    def validate(self) -> None:
        if not 0 < self.head_share < 1:
            raise ValueError(f"head_share must be in (0, 1), got {self.head_share}. To train all at once, use FedPer.")

    def private(self, params: Mapping[str, Tensor]) -> Collection[str]:
        return named(params, self.parts)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        epochs = (trainer.max_epochs or 0) - trainer.current_epoch
        self._head_batches = self.head_share * epochs * trainer.num_training_batches
        self._batches = 0
        params = {name: p for name, p in module.named_parameters() if p.requires_grad}
        head = set(self.private(params))
        self._head = [p for name, p in params.items() if name in head]
        self._body = [p for name, p in params.items() if name not in head]

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_index: int) -> None:
        self._batches += 1

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        waiting = self._body if self._batches <= self._head_batches else self._head
        for p in waiting if self.parts else ():
            p.grad = None  # an optimizer passes over what has no gradient

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        del self._head, self._body
