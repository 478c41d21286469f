"""The Lightning module of a client: it owns the training step, so that an algorithm never writes one."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.hooks import RemovableHandle

from fedlight.batch import Batch, Step, View
from fedlight.data_format import DataFormat
from fedlight.geometry import Placing, onto_grid
from fedlight.plugins import ClientPlugin
from fedlight.plugins.federation_style import FederationStyle
from fedlight.plugins.harmonisation import Harmonisers, rebuilt, saved
from fedlight.state import State, load
from fedlight.tasks.stages import undisturbed
from fedlight.tasks.views import Views

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]
Row = dict[str, Any]


class FederatedModule(LightningModule):
    """A network with a loss, trained in rounds: transform, forward with restyling, loss plus penalties.

    The network is built in ``configure_model``, so that constructing a task is free and its initial weights depend
    on the run's seed alone. The client sets ``plugins``, ``global_round`` and ``optimizer_state`` before each round.
    Example-level privacy sets ``example_wise``, so that the loss is the plain mean of those of single images, and
    ``finish_optimizer``, which wraps the optimizer last of all.

    Args:
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes a learning rate schedule from the optimizer; it counts global rounds, not epochs of a
            client, so every site has the same rate in the same round.
    """

    network: nn.Module
    placing: Placing = "padded"
    """How evaluation images come to the network's grid; set by ``bind``."""

    ensemble: Sequence[State] = ()
    """Parameters and buffers of several models that are evaluated as one, by the mean of their class probabilities."""

    views: Views | None = None
    """Views of an image over which ``segment`` averages class probabilities; None looks once, at the image itself."""

    federation_style: FederationStyle | None = None
    """What images of an institution that took no part are given the style of, after they were harmonised."""

    def __init__(self, optimizer: OptimizerFactory, scheduler: SchedulerFactory | None = None) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.plugins: Sequence[ClientPlugin] = ()
        self.harmonisers: Harmonisers = ()
        self.global_round = 1
        self.optimizer_state: Mapping[Any, Any] | None = None
        self.detailed = False  # whether `score` measures surface distances and calibration too
        self.rows: list[Row] = []
        self.example_wise = False
        self.finish_optimizer: Callable[[Optimizer], Optimizer] | None = None
        self._batch: Batch | None = None
        self._features: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._means: dict[str, tuple[Tensor, int]] = {}  # by name: sum over samples, number of samples

    # --- what a task says --------------------------------------------------------------------------------------

    def forgo_pretraining(self) -> None:
        """Is called before the network is built for weights that a run has trained: none need to be fetched."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""

    @abstractmethod
    def bind(self, data: DataFormat) -> None:
        """Takes classes, channels and sizes from the data, before the network is built.

        Raises:
            ValueError: If the task was configured for other classes or channels.
        """

    @abstractmethod
    def checkpoint(self) -> dict[str, Any]:
        """Returns a Lightning checkpoint of tensors and plain values that ``load_from_checkpoint`` opens."""

    @abstractmethod
    def stages(self) -> Mapping[str, str]:
        """Maps names of stages to names of submodules.

        The names are "input", "encoder1", ..., "bottleneck", "decoder1", ..., "decoder" (what the head gets) and
        "logits"; "input" maps to "", the network's own input.
        """

    @abstractmethod
    def criterion(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """Returns the supervised loss over valid pixels, a scalar.

        Args:
            logits: (N, K, H, W).
            masks: (N, H, W), int64.
            valid: (N, H, W), bool.
        """

    def check_examples(self) -> None:
        """Checks that what an image contributes to a step does not depend on the others of its batch.

        Raises:
            ValueError: Naming the setting that mixes images.
        """
        for name, layer in self.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                kind = type(layer).__name__
                raise ValueError(f"model.norm must be group, got {kind} ({name}). Leave model.norm out.")

    @abstractmethod
    def segment(self, batch: Batch) -> Tensor:
        """Returns class probabilities (N, classes, height, width), float32, on the grid of the cases as read."""

    @abstractmethod
    def score(self, batch: Batch) -> list[Row]:
        """Returns one row a case of an evaluation batch: "case", then metrics as floats."""

    def chances(self, batch: Batch) -> Tensor:
        """Returns what ``segment`` says of a batch, or the plain mean of what the models of an ensemble say."""
        if not self.ensemble:
            return self.segment(batch)
        total = torch.zeros(())
        for member in self.ensemble:
            load(self, member)
            total = total + self.segment(batch)
        return total / len(self.ensemble)

    # --- training ----------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (N, K, H, W) for images (N, C, H, W)."""
        return self.network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Runs one step: every plugin in the order in which the config lists it."""
        for plugin in self.plugins:
            batch = plugin.transform_batch(batch)
        draws = [plugin.generator.get_state() for plugin in self.plugins]
        loss = self._objective(batch)
        for plugin in self.plugins:
            loss = plugin.descend(loss, partial(self._repeat, batch, draws))
        return loss

    def _repeat(self, batch: Batch, draws: Sequence[Tensor]) -> Tensor:
        """The objective once more, with the random numbers that plugins drew the first time."""
        for plugin, drawn in zip(self.plugins, draws, strict=True):
            plugin.generator.set_state(drawn)
        return self._objective(batch, report=False)

    def _objective(self, batch: Batch, report: bool = True) -> Tensor:
        """The supervised loss of a styled pass plus every plugin's penalty."""
        logits, features = self._styled_pass(batch)
        loss = self._supervised(logits, batch["mask"], batch["valid"])
        step = Step(
            images=batch["image"],
            masks=batch["mask"],
            valid=batch["valid"],
            logits=logits,
            features=features,
            loss=loss,
            criterion=self.criterion,
            forward=self._plain_pass,
        )
        size = len(batch["case"])
        if report:
            self._count("train_loss", loss, size)
        for plugin in self.plugins:
            penalty = plugin.penalty(step)
            if penalty is not None:
                loss = loss + penalty
                if report:
                    self._count(f"{plugin.instance_id}/penalty", penalty, size)
        return loss

    def _supervised(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        if not self.example_wise:
            return self.criterion(logits, masks, valid)
        examples = zip(*(torch.split(part, 1) for part in (logits, masks, valid)), strict=True)
        return torch.stack([self.criterion(*example) for example in examples]).mean()

    def _count(self, name: str, value: Tensor, size: int) -> None:
        """Adds a step to a mean of the epoch; ``self.log`` takes half a millisecond, so it is called once an epoch."""
        total, samples = self._means.get(name, (0.0, 0))
        self._means[name] = (total + value.detach() * size, samples + size)

    @property
    def reported(self) -> list[str]:
        """Names of what this module logged in the last epoch: "train_loss" and the penalties of plugins."""
        return list(self._means)

    def on_train_epoch_start(self) -> None:
        """Starts the means of an epoch."""
        self._means = {}

    def on_train_epoch_end(self) -> None:
        """Logs the means over the samples of an epoch."""
        for name, (total, samples) in self._means.items():
            self.log(name, total / samples, batch_size=1)

    def _styled_pass(self, batch: Batch) -> View:
        """The training pass: hooks restyle the stages that plugins named."""
        self._batch, self._features = batch, {}
        try:
            logits = self(batch["image"])
        finally:
            self._batch = None
        return View(logits, self._features)

    def _plain_pass(self, images: Tensor, params: State | None = None) -> View:
        """A further pass that plugins may ask for; parameters by their names in this module."""
        kept, self._features = self._features, {}
        try:
            logits = self(images) if params is None else torch.func.functional_call(self, params, (images,))
            return View(logits, self._features)
        finally:
            self._features = kept

    def on_fit_start(self) -> None:
        """Hooks the stages that plugins named, for this round only."""
        wanted = dict.fromkeys(stage for plugin in self.plugins for stage in plugin.stages)
        if not wanted:
            return
        places = self.stages()
        for stage in wanted:
            if stage not in places:
                raise ValueError(f"stage must be one of {', '.join(places)}, got {stage}. Name one of these.")
            self._hooks.append(self._hook(stage, places[stage]))

    def _hook(self, stage: str, place: str) -> RemovableHandle:
        plugins = [plugin for plugin in self.plugins if stage in plugin.stages]

        def visit(x: Tensor) -> Tensor:
            if self._batch is not None:
                for plugin in plugins:
                    x = plugin.restyle(stage, x, self._batch)
            self._features[stage] = x
            return x

        if not place:
            return self.network.register_forward_pre_hook(lambda _, args: (visit(args[0]), *args[1:]))
        module = self.network.get_submodule(place)
        return module.register_forward_hook(lambda _, args, output: visit(output))

    def on_fit_end(self) -> None:
        """Leaves the network as it was: no hook and no feature map outlives a round."""
        self.release()

    def release(self) -> None:
        """Removes hooks and what they kept; also called when a round breaks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._features, self._batch = [], {}, None

    # --- optimisation ------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Optimizer:
        """Builds the optimizer with this round's learning rate and, if it is kept, its state of the round before."""
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if self.make_scheduler is not None:
            _advance(self.make_scheduler(optimizer), self.global_round - 1)
        if self.optimizer_state:
            # groups come from this round (learning rate), everything else from the last one
            optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(self.optimizer_state)})
        for plugin in self.plugins:
            optimizer = plugin.wrap_optimizer(optimizer)
        return optimizer if self.finish_optimizer is None else self.finish_optimizer(optimizer)

    def mean_loss(self, batches: Iterable[Batch]) -> float:
        """Returns the mean supervised loss over the cases of some batches, in evaluation mode, without plugins."""
        total, cases = 0.0, 0
        with undisturbed(self):
            for batch in batches:
                batch = self.transfer_batch_to_device(batch, self.device, 0)
                loss = self.criterion(self(batch["image"]), batch["mask"], batch["valid"])
                total, cases = total + float(loss) * len(batch["case"]), cases + len(batch["case"])
        return total / cases

    def features_of(self, images: Tensor) -> Mapping[str, Tensor]:
        """Returns the features at the stages that plugins named, of a plain pass in evaluation mode.

        Args:
            images: (N, C, H, W), as the network is to see them.
        """
        self.on_fit_start()
        try:
            with undisturbed(self):
                return self._plain_pass(images).features if self._hooks else {}
        finally:
            self.release()

    # --- evaluation --------------------------------------------------------------------------------------------

    def harmonised(self, images: Tensor, valid: Tensor) -> Tensor:
        """Returns images as the network is to see them: as they are, unless plugins harmonise images.

        Args:
            images: (N, C, H, W).
            valid: (N, H, W), bool, on the grid of the images.
        """
        for plugin, reference in self.harmonisers:
            images = plugin.harmonise(images, valid, reference)
        return images

    def seen(self, batch: Batch) -> Tensor:
        """Returns the images of an evaluation batch as the network is to see them, (N, C, H, W)."""
        if not self.harmonisers and self.federation_style is None:
            return batch["image"]
        grid = (batch["image"].shape[-2], batch["image"].shape[-1])
        valid = onto_grid(batch["valid"], batch["size"], grid, self.placing)
        images = self.harmonised(batch["image"], valid)
        return images if self.federation_style is None else self.federation_style.put_on(images, valid)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps with a model what its images must go through."""
        if self.harmonisers:
            checkpoint["harmonisers"] = saved(self.harmonisers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back what images must go through."""
        self.harmonisers = rebuilt(checkpoint.get("harmonisers", ()))

    def on_validation_start(self) -> None:
        """Starts an empty list of scores."""
        self.rows = []

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Scores a batch of cases."""
        self.rows.extend(self.score(batch))


def _advance(scheduler: LRScheduler, rounds: int) -> None:
    """Brings a fresh schedule to a round; the groups of its optimizer then have that round's learning rate."""
    with warnings.catch_warnings():
        # no optimizer step has been made yet, and none needs to be: only the rate is wanted
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step")
        for _ in range(rounds):
            scheduler.step()
