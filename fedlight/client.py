"""A client: one module, one Trainer, one site."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from fedlight import state
from fedlight.batch import Batch
from fedlight.buffers import recalibrate
from fedlight.channel import Compression, SiteEnd
from fedlight.data.federated import FederatedDataModule, Stage
from fedlight.metrics import mean_over_sites, summarise
from fedlight.plugins import ClientPlugin, Harmonisation, ImageMeans
from fedlight.privacy import secret
from fedlight.privacy.accounting import Ledger
from fedlight.privacy.example_level import Account, ExampleLevel
from fedlight.randomness import derive, generator, seeded
from fedlight.secure_aggregation import SecureAggregation, Session
from fedlight.state import State
from fedlight.stopwatch import section
from fedlight.tasks.federated_module import FederatedModule
from fedlight.trainer import interruptible, make_trainer, quiet_lightning
from fedlight.update import Broadcast, Evaluation, RoundContext, Update

BufferPolicy = Literal["average", "local", "recalibrate"]
Progress = Callable[[str, int, int, int, float], None]
"""Called with site, round, step, steps and loss while a client trains."""


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """How every client works; plain values, the same at all sites.

    Attributes:
        epochs: Passes over the site's data in a round, unless ``steps`` is given.
        steps: Optimizer steps in a round, for every institution whose data a client has.
        optimizer_state: "reset" starts every round with a fresh optimizer, as in FedAvg; "keep" goes on with the
            site's own.
        buffers: Whether running statistics are averaged, stay at the site, or are computed anew at every site.
        share_cases: Whether scores of single cases may leave the site (in a simulation they may).
        threads: Threads of torch while a site works; torch's own choice if left out. Equal threads give equal bits.
        trainer: Arguments of the client's own Trainer.
        measures: What the aggregator wants to be measured at every site (see ``Aggregator.measures``).
        compression: What updates and broadcasts are written with.
        example_privacy: How little an update may depend on any one patient; None for any amount.
        secure: How updates are summed so that the server learns the sum alone; None sends them as they are.
    """

    epochs: int = 1
    steps: int | None = None
    optimizer_state: Literal["reset", "keep"] = "reset"
    buffers: BufferPolicy = "average"
    share_cases: bool = True
    threads: int | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    measures: Sequence[str] = ()
    compression: Compression = field(default_factory=Compression)
    example_privacy: ExampleLevel | None = None
    secure: SecureAggregation | None = None

    def steps_of(self, institutions: Sequence[str]) -> int | None:
        """Returns the optimizer steps that a client of some institutions makes in a round; None for whole epochs.

        A client of pooled data makes the steps of all of them, so that it sees as many images as they would.
        """
        return None if self.steps is None else self.steps * len(institutions)


class Client:
    """Trains and evaluates at one site; what it keeps between rounds is in ``state_dict``.

    Args:
        site: Name of the client.
        module: The task, owned by this client.
        data: Data of the site.
        plugins: Client plugins, owned by this client, in config order.
        local: How to train.
        progress: Called a few times a second while training.
        ledger: Where the site keeps what it has spent of its privacy budget; in memory if left out.
    """

    def __init__(
        self,
        site: str,
        module: FederatedModule,
        data: FederatedDataModule,
        plugins: Sequence[ClientPlugin],
        local: LocalTraining,
        progress: Progress | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.site = site
        self.module = module
        self.data = data
        self.plugins = tuple(plugins)
        self.local = local
        self.progress = progress
        self._trainer: Trainer | None = None
        self._epochs = 0
        self._optimizer_state: Mapping[Any, Any] | None = None
        self.own: State = {}  # parameters and buffers that stay here
        self.channel = SiteEnd(local.compression)
        self._shapes_kept = True
        settings = local.example_privacy
        self._account = None if settings is None else Account(settings, ledger or Ledger())
        self.session: Session | None = None  # in the secure sum of the last round that was trained

    # --- the phases of a round -----------------------------------------------------------------------------------

    def fit(self, broadcast: Broadcast) -> Update:
        """Trains on the site's own data from the broadcast model and returns what the server may see."""
        begun = time.perf_counter()
        broadcast = self.channel.receive(broadcast)
        context = broadcast.context
        stream = (context.round, self.site)
        self.receive(broadcast)
        self.module.plugins = self.plugins
        self.module.global_round = context.round
        self.module.optimizer_state = self._optimizer_state
        try:
            with seeded(context.seed, *stream, "train"):
                start = self._start_loss(context)
                for plugin in self.plugins:
                    plugin.generator = generator(context.seed, *stream, plugin.instance_id)
                    plugin.on_round_start(self.site, self.module, broadcast)
                metrics = self._train(context, derive(context.seed, *stream, "data"))
                shared = self._end_round(context.rounds)
                scores = self._local_scores(context)
        finally:
            self.module.release()
        params, buffers = self._keep_own()
        self._shapes_kept = _shapes(params) == _shapes(broadcast.params)
        self._rest()
        update = Update(
            site=self.site,
            round=context.round,
            num_samples=self.data.num_samples(self.site),
            params=params,
            buffers=buffers,
            metrics={**metrics, **start, **scores, "seconds": time.perf_counter() - begun},
            shared=shared,
        )
        if self.local.secure is not None:
            self.session = Session(self.local.secure, broadcast, update, self.plugins)
            return self.session.announcement
        return self.channel.send(update, broadcast)

    def evaluate(self, broadcast: Broadcast, stage: Stage = "val", detailed: bool = False) -> tuple[Evaluation, ...]:
        """Scores the broadcast model (with what is the site's own) on one split of the site's institutions.

        Args:
            broadcast: The model.
            stage: "val" or "test".
            detailed: Whether to measure surface distances and calibration too, which takes longer.

        Returns:
            One evaluation an institution that has cases in this split.
        """
        broadcast = self.channel.receive(broadcast)
        self.receive(broadcast)
        for plugin in self.plugins:
            state.load(self.module, plugin.personal())
        return self._score_own(broadcast.context, stage, detailed)

    def receive(self, broadcast: Broadcast, own: State | None = None) -> None:
        """Loads the broadcast model and what is the site's own, or what is given in its place."""
        state.load(self.module, {**broadcast.params, **broadcast.buffers, **(self.own if own is None else own)})
        self.module.harmonisers = [
            (plugin, broadcast.shared.get(plugin.instance_id, {}))
            for plugin in self.plugins
            if isinstance(plugin, Harmonisation)
        ]

    def score(self, institution: str, stage: Stage, round: int, detailed: bool) -> Evaluation | None:
        """Scores the model that is loaded on one split of an institution; None where it has no case."""
        loader = self.data.loader(institution, stage)
        if not len(loader):
            return None
        self.module.detailed = detailed
        trainer = self._resident_trainer()
        with quiet_lightning(), interruptible(), section("Trainer: set-up and loop"):
            trainer.validate(self.module, dataloaders=loader, verbose=False)
        rows, self.module.rows = self.module.rows, []
        return Evaluation(
            site=institution,
            round=round,
            num_cases=len(rows),
            metrics=summarise(rows),
            cases=tuple(rows) if self.local.share_cases else (),
        )

    @property
    def sound(self) -> bool:
        """Whether all numbers of the model that is loaded are finite, and its shapes those that the site was sent."""
        model = {**state.parameters_of(self.module), **state.buffers_of(self.module)}
        return self._shapes_kept and all(map(state.finite, model.values()))

    def release(self) -> None:
        """Lets go of the network at once; the client cannot be used any more.

        A client and its Trainer know each other, so the garbage collector would find them much later.
        """
        self._rest()
        self.module.to("meta")

    # --- what survives a restart -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns what the client keeps from round to round: tensors and plain values."""
        return {
            "epochs": self._epochs,
            "own": dict(self.own),
            "optimizer": None if self._optimizer_state is None else dict(self._optimizer_state),
            "plugins": {plugin.instance_id: plugin.state_dict() for plugin in self.plugins},
            "channel": self.channel.state_dict(),
            "privacy": [] if self._account is None else self._account.ledger.rows(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        self._epochs = saved["epochs"]
        self.own = dict(saved["own"])
        self._optimizer_state = saved["optimizer"]
        for plugin in self.plugins:
            plugin.load_state_dict(saved["plugins"][plugin.instance_id])
        self.channel.load_state_dict(saved.get("channel", {}))
        if self._account is not None:
            self._account.ledger.restore(saved.get("privacy", []))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _train(self, context: RoundContext, seed: int) -> dict[str, float]:
        steps = self.local.steps_of(self.data.institutions(self.site))
        if self._account is not None:
            return self._train_privately(self._account, context, steps)
        loader = self.data.train_loader(self.site, seed=seed, steps=steps)
        done = self._run_trainer(context.round, loader, epochs=1 if steps else self.local.epochs)
        # what callbacks of the user log stays here
        logged = self._resident_trainer().callback_metrics
        return {**{name: float(logged[name]) for name in self.module.reported}, "steps": float(done)}

    def _train_privately(self, account: Account, context: RoundContext, steps: int | None) -> dict[str, float]:
        """Trains under example-level privacy; no loss is reported, as nothing covers it."""
        patients, size = self.data.patients(self.site), self.data.batch_size
        steps = steps or self.local.epochs * -(-patients // size)
        rounds = account.settings.rounds or context.rounds
        releases = [one.releases(rounds) for one in self._sharing(rounds)]
        terms = account.open_round(patients, size, steps, rounds, releases)
        draws = secret.poisson(patients, terms.rate, steps)
        loader = self.data.patient_loader(self.site, draws, seed=secret.seed())
        with account.steps(self.module, terms):
            done = self._run_trainer(context.round, loader, epochs=1)
        return {"steps": float(done), "epsilon": account.spent}

    def _sharing(self, rounds: int) -> list[ImageMeans]:
        """Returns the plugins that share means over images in this round, of so many."""
        return [plugin for plugin in self.plugins if isinstance(plugin, ImageMeans) and plugin.releases(rounds)]

    def _private_means(self, account: Account, rounds: int) -> Mapping[ImageMeans, Mapping[str, Tensor]]:
        """Takes clipped and noised means over all training patients for plugins that share what they measure."""
        patients, size = self.data.patients(self.site), self.data.batch_size
        draws = [range(first, min(first + size, patients)) for first in range(0, patients, size)]
        means = {plugin: account.private_mean() for plugin in self._sharing(rounds)}
        self.module.to(self._resident_trainer().strategy.root_device)
        for drawn in self.data.patient_loader(self.site, draws, seed=secret.seed()) if means else ():
            batch: Batch = self.module.transfer_batch_to_device(drawn, self.module.device, 0)
            seen: Batch = {**batch, "image": self.module.harmonised(batch["image"], batch["valid"])}
            features = self.module.features_of(seen["image"])
            for plugin, mean in means.items():
                mean.add(plugin.of_images(batch if isinstance(plugin, Harmonisation) else seen, features))
        return {plugin: plugin.of_means(mean.over(patients), patients) for plugin, mean in means.items()}

    def _run_trainer(self, round: int, loader: DataLoader[Batch], epochs: int) -> int:
        """Makes some passes over a loader and returns the number of steps."""
        trainer = self._resident_trainer()
        # a second fit with unchanged max_epochs trains nothing, silently: Lightning 9636, 11425
        trainer.fit_loop.max_epochs = trainer.current_epoch + epochs
        steps = epochs * len(loader)
        self._report.begin(round, steps)
        with quiet_lightning(), interruptible(), section("Trainer: set-up and loop"):
            trainer.fit(self.module, train_dataloaders=loader)
        self._epochs = trainer.current_epoch
        if self.local.optimizer_state == "keep":
            self._optimizer_state = copy.deepcopy(trainer.optimizers[0].state_dict()["state"])
        return steps

    def _score_own(self, context: RoundContext, stage: Stage, detailed: bool) -> tuple[Evaluation, ...]:
        """Scores the model that is loaded on the site's institutions, with running statistics by the policy."""
        if self.local.buffers == "recalibrate" and state.buffers_of(self.module):
            loader = self.data.train_loader(self.site, seed=derive(context.seed, self.site, "recalibrate"))
            recalibrate(self.module, (self.module.harmonised(batch["image"], batch["valid"]) for batch in loader))
        return tuple(
            evaluation
            for institution in self.data.institutions(self.site)
            if (evaluation := self.score(institution, stage, context.round, detailed)) is not None
        )

    def _start_loss(self, context: RoundContext) -> dict[str, float]:
        if "start_loss" not in self.local.measures:
            return {}
        self.module.to(self._resident_trainer().strategy.root_device)
        purpose = (context.round, self.site, "start loss")
        with seeded(context.seed, *purpose):  # training goes on with the random numbers of a run without this pass
            loader = self.data.train_loader(self.site, seed=derive(context.seed, *purpose))
            return {"start_loss": self.module.mean_loss(loader)}

    def _local_scores(self, context: RoundContext) -> dict[str, float]:
        if "local_scores" not in self.local.measures:
            return {}
        scores = {one.site: one.metrics for one in self._score_own(context, "val", detailed=False)}
        return {f"local/{name}": value for name, value in mean_over_sites(scores).items()}

    def _end_round(self, rounds: int) -> dict[str, Mapping[str, Tensor]]:
        means = {} if self._account is None else self._private_means(self._account, rounds)
        shared: dict[str, Mapping[str, Tensor]] = {}
        for plugin in self.plugins:
            part = plugin.on_round_end(self.module)
            if self._account is not None and isinstance(plugin, ImageMeans):  # in place of what training saw
                part = means.get(plugin, {})
            shared |= {plugin.instance_id: part} if part else {}
        return shared

    def _keep_own(self) -> tuple[State, State]:
        """Splits the trained state into what leaves the site and what stays; returns the former."""
        params, buffers = state.parameters_of(self.module), state.buffers_of(self.module)
        private = {name for plugin in self.plugins for name in plugin.private(params)}
        shared = {name: value for name, value in params.items() if name not in private}
        self.own = state.select(params, private)
        if self.local.buffers == "local" or not shared:  # statistics belong to the parameters that they were made with
            self.own |= buffers
            buffers = {}
        if not all(map(state.finite, self.own.values())):  # nobody else would see it
            raise FloatingPointError("what stays at the site is not finite after training")
        return shared, buffers if self.local.buffers == "average" else {}

    def _rest(self) -> None:
        """Lets go of gradients and optimizer, three times the size of the network, until the next round."""
        self.module.zero_grad(set_to_none=True)
        if self._trainer is not None:
            self._trainer.strategy.optimizers = []

    def _resident_trainer(self) -> Trainer:
        """The client's own Trainer, built once; epochs and steps stay monotonic over rounds."""
        if self._trainer is None:
            self._report = _Report(self.site, self.progress)
            self._trainer = make_trainer(self.local.trainer, [*self.plugins, self._report])
            done = self._trainer.fit_loop.epoch_progress.current
            done.ready = done.completed = self._epochs
            done.started = done.processed = self._epochs  # type: ignore[attr-defined]
        return self._trainer


def _shapes(params: State) -> dict[str, Any]:
    return {name: value.shape for name, value in params.items()}


class _Report(Callback):
    """Tells how far a client is, at most five times a second; the loss is fetched from the device only then."""

    def __init__(self, site: str, progress: Progress | None) -> None:
        self.site, self.progress = site, progress
        self.round, self.steps, self.step, self.due = 0, 0, 0, 0.0

    def begin(self, round: int, steps: int) -> None:
        self.round, self.steps, self.step = round, steps, 0

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self.step += 1
        now = time.monotonic()
        if self.progress is not None and outputs is not None and now >= self.due:
            self.due = now + 0.2
            self.progress(self.site, self.round, self.step, self.steps, float(outputs["loss"]))
