"""The client's half of an algorithm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor
from torch.optim import Optimizer

from fedlight.batch import Batch, Step
from fedlight.plugins.plugin import Plugin
from fedlight.state import State
from fedlight.update import Broadcast, RoundContext

if TYPE_CHECKING:
    from fedlight.plugins.aggregator import Aggregator

Statistics = Mapping[str, Tensor]


class ClientPlugin(Plugin, Callback):
    """A Lightning Callback that also takes part in rounds.

    At the site, in this order: ``on_round_start``; for every step ``transform_batch``, the forward pass with
    ``restyle`` at the plugin's stages, ``penalty``; ``on_round_end``. Lightning's own hooks work too
    (``on_before_optimizer_step`` for gradients). The server has an instance of its own, which sees what the sites
    share: ``begin``, ``add`` once a site in site order, ``finish``.
    """

    example_independent: ClassVar[bool] = True
    """False for anything that mixes the examples of a batch (refused under example-level differential privacy).

    True in the body of a plugin's own class declares that no image has a part in what becomes of another one, and that
    nothing measured on images is shared but by ``ImageMeans``. Under example-level privacy a plugin with
    ``transform_batch``, ``restyle``, ``on_round_start`` or ``on_round_end`` is refused without that declaration.
    """

    needs_shared: ClassVar[bool] = False
    """True for what works on the model that the sites share: refused where every parameter stays at its site."""

    linear: ClassVar[bool] = False
    """True if the server's half needs only the weighted mean of ``summand``, so that secure aggregation is possible.

    What a plugin shares without a server's half that takes it (``add``) does not matter: it stays at the site then.
    """

    stages: Sequence[str] = ()
    """Stages of the network at which ``restyle`` is called or whose features ``penalty`` needs: "encoder1", ..."""

    generator: torch.Generator
    """This plugin's own CPU random numbers at this site in this round; set before ``on_round_start``."""

    kind: ClassVar[str] = "client plugin"

    @property
    def state_key(self) -> str:
        """Lightning's name for this callback; two of one class differ by their ids."""
        return self.instance_id or type(self).__qualname__

    def check_others(self, aggregator: Aggregator, plugins: Sequence[ClientPlugin]) -> None:
        """Checks the aggregator and the other client plugins of the run, when the config is read.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        """Prepares a round; ``module`` already holds the broadcast parameters.

        What the plugin's server side returned from ``finish`` is ``broadcast.shared.get(self.instance_id, {})``.
        """

    def transform_batch(self, batch: Batch) -> Batch:
        """Returns the batch to train on; images may change, the input batch must not be modified."""
        return batch

    def restyle(self, stage: str, x: Tensor, batch: Batch) -> Tensor:
        """Returns the features to go on with at a stage of the training forward pass, (N, C, h, w) like ``x``."""
        return x

    def penalty(self, step: Step) -> Tensor | None:
        """Returns a differentiable scalar to add to the loss, already weighted, or None for nothing."""
        return None

    def descend(self, loss: Tensor, again: Callable[[], Tensor]) -> Tensor:
        """Returns the loss whose gradient the optimizer gets: ``loss`` itself, or one that is taken elsewhere.

        At most one plugin of a run may have this hook. It may use up the graph of ``loss``, move the parameters and
        call ``again``, which repeats the pass with the same draws and every penalty; Lightning's
        ``on_after_backward`` is the place to move the parameters back.
        """
        return loss

    def wrap_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Returns the optimizer to train with; also called once when the config is read.

        Raises:
            ValueError: If the plugin cannot work with it: one sentence with the value, the rule and the way out.
        """
        return optimizer

    def private(self, params: Mapping[str, Tensor]) -> Collection[str]:
        """Returns the names of those trainable parameters that stay at the site; only names and shapes may decide."""
        return ()

    def personal(self) -> Mapping[str, Tensor]:
        """Returns parameters and buffers with which the site's own cases are scored in place of the broadcast ones.

        An institution that took no part is always scored with the broadcast ones. At most one plugin of a run may have
        this hook.
        """
        return {}

    def on_round_end(self, module: LightningModule) -> Statistics:
        """Ends a round, undoes what was done to the module and returns what the site shares (detached)."""
        return {}

    # --- under secure aggregation, for linear plugins ------------------------------------------------------------

    def summand(self, shared: Statistics, weight: float, reference: Statistics) -> tuple[Statistics, float]:
        """Returns what is averaged in place of what the site shares, under the same names, and its weight.

        Args:
            shared: What ``on_round_end`` returned.
            weight: What the site counts for.
            reference: What every site was sent in this round.
        """
        return shared, weight

    def of_mean(self, mean: Statistics, total: float, reference: Statistics) -> Statistics:
        """Returns what one site would have shared that stands for all of them, for ``add``.

        Args:
            mean: The weighted mean of ``summand`` over the sites, float64.
            total: The sum of their weights, which ``context.weights`` has for that one site.
            reference: What every site was sent in this round.
        """
        return mean

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        """Opens the collection of a round; ``previous`` is what the sites were sent in it."""
        self._previous = previous

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        """Takes what one site shared; called once a site of the cohort, in site order."""

    def finish(self) -> Statistics:
        """Returns what every site gets with the next broadcast."""
        return self._previous

    def deploy(self, params: State) -> State:
        """Returns the model to evaluate and keep in place of the global one, for instance an average over rounds.

        Called once after every completed round with the new global parameters, which are not to be modified. The
        sites go on from the global ones all the same.
        """
        return params
