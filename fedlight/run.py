"""A run: the server, its record and its folder, opened anew, to go on or to be scored."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fedlight
from fedlight import state
from fedlight.adaptation import NO_HELP, Adaptation
from fedlight.checkpoint import RunFolder, SiteStore, Which, newest, next_free, numbered
from fedlight.data.federated import FederatedDataModule
from fedlight.examples import examples
from fedlight.executors import ClientFactory, Executor, InProcess
from fedlight.history import History
from fedlight.plugins import ClientPlugin
from fedlight.plugins.disclosure import beyond_site_level
from fedlight.preparation import (
    ConfigError,
    build,
    check_buffers,
    check_private,
    check_same_config,
    check_scored_config,
    differences,
    prototypes,
    rehearse,
)
from fedlight.real_time import RealTime
from fedlight.schedule import Plan
from fedlight.selection import Selection, mean_dice
from fedlight.server import Server
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tracking import ConsoleTracker, Fanout, JsonlTracker, RunInfo, StatusTracker
from fedlight.unseen import offered, score_unseen
from fedlight.update import Broadcast, Evaluation, SiteFailure

if TYPE_CHECKING:
    from fedlight.federation import Federation

log = logging.getLogger("fedlight")

CLOCKED = "real: who is first counts, so the run does not repeat; Replay repeats it from its record"
"""What the record of a run by the real clock says of it."""


@dataclass
class Run:
    """Everything that belongs to one run; made by ``start`` or ``reopen``.

    Attributes:
        folder: Where it is kept.
        server: The global model and the server's plugins.
        selection: Best round so far.
        make_client: Makes clients.
        tracker: Records it.
        info: What trackers know from the start.
        evaluations: The latest of every institution, without single cases.
        num_samples: Training cases of every site, once open.
        took_part: The last round of every site that has taken part.
        fresh: Whether no run was started in the folder yet.
        plans: What happens in the rounds that come.
        history: Versions of the model that sites at work started from.
        clock: The sites at work, where rounds go by the real clock.
        dated: Whether what a site keeps has the number of the round that it began in (see ``Plan.dated``).
        executor: Where its clients run.
    """

    folder: RunFolder
    server: Server
    selection: Selection
    make_client: ClientFactory
    tracker: Fanout
    info: RunInfo
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    num_samples: dict[str, int] = field(default_factory=dict)
    took_part: dict[str, int] = field(default_factory=dict)
    fresh: bool = False
    plans: Iterator[Plan] = field(default_factory=lambda: iter(()))
    history: History = field(default_factory=History)
    clock: RealTime | None = None
    dated: bool = False
    executor: Executor = field(default_factory=InProcess)

    @classmethod
    def start(
        cls, federation: Federation, module: FederatedModule, data: FederatedDataModule, ckpt_path: str | None
    ) -> Run:
        """Makes a run, or with ``ckpt_path`` finds one and goes on after its last complete round."""
        folder = _find(federation.run_folder, ckpt_path, federation.config)
        run = cls._assemble(federation, module, data, folder)
        saved = folder.load() if folder.exists() else None
        if folder.exists():
            done = saved["server"]["round"] if saved else 0
            check_same_config(folder.config(), run.info.config, done, federation.executor.remote)
        if not federation.executor.remote:  # else every site rehearses with its own data
            rehearse(module, data)
        run.fresh = not folder.exists()
        run.info = replace(run.info, last=_meaning(federation.run_folder, folder) if ckpt_path == "last" else "")
        if saved is not None:
            run._load(saved)
        return run

    @classmethod
    def reopen(
        cls,
        federation: Federation,
        module: FederatedModule,
        data: FederatedDataModule,
        ckpt_path: str | None,
        which: Which = "selected",
    ) -> Run:
        """Opens a trained run with its selected model or that of its last round, for scoring."""
        folder = trained(federation.run_folder, ckpt_path)
        if federation.config:
            check_scored_config(folder.config(), federation.config)
        module.forgo_pretraining()
        run = cls._assemble(federation, module, data, folder)
        run.took_part = (folder.load() or {}).get("took_part", {})
        run.server.round = load_model_file(folder.model(which), module)
        run.server.params, run.server.buffers = state.parameters_of(module), state.buffers_of(module)
        run.server.shared = {plugin.instance_id: reference for plugin, reference in module.harmonisers}
        run.server.deployed = run.server.params
        run.make_client = replace(run.make_client, selected=which == "selected")
        run.info = replace(run.info, scoring=which)
        return run

    @classmethod
    def _assemble(
        cls, federation: Federation, module: FederatedModule, data: FederatedDataModule, folder: RunFolder
    ) -> Run:
        aggregator, plugins = prototypes(federation.aggregator, federation.plugins)
        build(module, data, [aggregator, *plugins], federation.seed)
        params, buffers = state.parameters_of(module), state.buffers_of(module)
        server = Server(aggregator, plugins, params, buffers, federation.local.compression)
        check_buffers(federation.local.buffers, server.buffers, server.private)
        check_private(federation.local.example_privacy, module, aggregator, plugins, federation.local.trainer)
        watching = [ConsoleTracker()] if federation.console else []
        return cls(
            folder=folder,
            server=server,
            selection=Selection(federation.patience),
            make_client=ClientFactory(
                module, data, prototypes(federation.aggregator, federation.plugins)[1], federation.local, folder.sites
            ),
            tracker=Fanout([JsonlTracker(), StatusTracker()], [*watching, *copy.deepcopy(list(federation.trackers))]),
            info=_info(federation, data, folder, server),
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """The clients, in their fixed order."""
        return self.info.sites

    @property
    def own_models(self) -> bool:
        """Whether sites keep a model, parameters or running statistics of their own."""
        return self.server.sites_differ or self.make_client.local.buffers == "local"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Takes the folder for this process and leaves the config there: nothing is written before it is taken.

        Raises:
            ConfigError: If another process has taken it, or it cannot be made.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.folder.lock())
            except BlockingIOError as error:
                raise _taken(self.folder.path) if self.fresh else ConfigError(str(error)) from error
            except (NotADirectoryError, FileExistsError, PermissionError, FileNotFoundError) as error:
                raise ConfigError(
                    f"run_folder must be a folder that can be made, got {self.folder.path} ({error.strerror}). "
                    "Name another."
                ) from error
            if self.fresh and self.folder.exists():
                raise _taken(self.folder.path)
            self.folder.create(self.info.config)
            yield

    def open(self, executor: Executor) -> None:
        """Starts executor and trackers.

        Raises:
            ConfigError: If what a site kept is missing or damaged; going on would silently start it anew.
            DamagedFileError: If what the aggregator has spent cannot be read.
        """
        self.executor = executor
        self._check_sites()
        if not self.info.scoring:
            self.server.aggregator.open(self.folder.path)
        if not (self.fresh or self.info.scoring):  # only now, as it cannot be undone
            self.folder.rewind(self.server.round, self._counted)
        self.num_samples = executor.open(
            self.sites, self.make_client, self.server.round, self.tracker.on_progress, self._counted
        )
        try:
            self.tracker.start(replace(self.info, start_round=self.server.round, num_samples=self.num_samples))
        except BaseException:
            executor.close()
            raise

    def keep(self, selected: bool) -> None:
        """Writes what a round leaves behind; the server's own state comes last and makes the round final."""
        self.folder.write_checkpoint(self._checkpoint(), selected)
        for site in self.sites if selected and self.own_models and not self.executor.remote else ():
            self.make_client.store(site).select(self._counted.get(site, self.server.round))
        if selected and self.own_models:
            self.executor.select(self.server.round)
        self.folder.commit(self.server.round, self._state())

    def record(self, split: str, evaluations: Sequence[Evaluation], model: str | None = None) -> None:
        """Passes scores on to the trackers; without a model's name, those of what every site evaluates."""
        if model is None and self.server.private:
            for evaluation in evaluations:
                self.record(split, [evaluation], evaluation.site)
            return
        rows = [{"site": evaluation.site, **row} for evaluation in evaluations for row in evaluation.cases]
        self.tracker.on_test(split, model or "global", evaluations, rows)

    def score_held_out(
        self, broadcast: Broadcast, institutions: Sequence[str], adaptation: Adaptation = NO_HELP
    ) -> list[Evaluation]:
        """Scores the institutions that took no part, with every model that the federation has for them."""
        scored: dict[str, list[Evaluation]] = {}
        for institution in institutions:
            for model, evaluation in self._score_unseen(broadcast, institution, adaptation):
                scored.setdefault(model, []).append(evaluation)
        for model, evaluations in scored.items():
            self.record("held-out", evaluations, model)
        return [evaluation for evaluations in scored.values() for evaluation in evaluations]

    def offered(self, broadcast: Broadcast, institution: str) -> Iterator[tuple[str, FederatedModule]]:
        """Makes the models that ``score_held_out`` scores, one after the other, by name.

        Raises:
            ConfigError: If what a site kept is missing or damaged.
        """
        self._check_sites()
        for model, client in offered(self.make_client, broadcast, institution, bool(self.server.private)):
            yield model, client.module

    def show(self) -> None:
        """Gives trackers that want them examples of the selected model's work at every institution."""
        if not self.tracker.overlays or not self.folder.selected.is_file() or self.executor.remote:
            return
        module, data = self.make_client.module, self.make_client.data
        load_model_file(self.folder.selected, module)
        for institution in (institution for site in self.sites for institution in data.institutions(site)):
            shown = examples(module, data, institution)
            if shown is not None:
                self.tracker.on_overlays(institution, self.server.round, *shown)

    def finish(self) -> None:
        """Closes the record with a summary."""
        summary: dict[str, Any] = {
            "round": self.server.round,
            "selected_round": self.selection.best_round,
            "val_dice": mean_dice(self.evaluations) if self.evaluations else None,
        }
        artifacts = [self.folder.selected] if self.folder.selected.is_file() else []
        self.tracker.finish("finished", summary, artifacts)

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _counted(self) -> dict[str, int]:
        """The last round of every site that counts, where that may be another than the last that it has trained."""
        return {site: self.took_part.get(site, 0) for site in self.sites} if self.dated else {}

    def _score_unseen(
        self, broadcast: Broadcast, institution: str, adaptation: Adaptation
    ) -> Iterable[tuple[str, Evaluation]]:
        private = bool(self.server.private)
        scored = self.executor.score_unseen(institution, broadcast, private)
        if isinstance(scored, SiteFailure):
            log.warning("%s is not scored: %s", institution, scored.reason)
            return ()
        if scored is not None:
            return scored
        return score_unseen(self.make_client, broadcast, institution, private, adaptation)

    def _check_sites(self) -> None:
        if self.executor.remote:
            return
        selected = self.make_client.selected
        for site in self.took_part if self.own_models or not self.info.scoring else ():
            store = self.make_client.store(site)
            try:
                kept = store.selected() if selected else store.load(self.server.round)
            except ValueError as error:
                raise ConfigError(f"{error}. Bring the file back, or start a new run.") from error
            if kept is None:
                raise ConfigError(f"{store.folder} must hold what {site} keeps, but it is missing. Bring it back.")

    def _checkpoint(self) -> dict[str, Any]:
        module = self.make_client.module
        state.load(module, {**self.server.deployed, **self.server.buffers})
        module.harmonisers = self.server.harmonisers
        about = {
            "version": fedlight.__version__,
            "round": self.server.round,
            "classes": list(self.info.classes),
            "sites": list(self.sites),
            "held_out": list(self.info.held_out),
        }
        return {**module.checkpoint(), "fedlight": about}

    def _state(self) -> dict[str, Any]:
        return {
            "server": self.server.state_dict(),
            "selection": self.selection.state_dict(),
            "took_part": dict(self.took_part),
            "history": self.history.state_dict(),
            "evaluations": [
                asdict(replace(evaluation, metrics=dict(evaluation.metrics)))
                for evaluation in self.evaluations.values()
            ],
        }

    def _load(self, saved: dict[str, Any]) -> None:
        self.server.load_state_dict(saved["server"])
        self.selection.load_state_dict(saved["selection"])
        self.took_part = dict(saved["took_part"])
        self.history.load_state_dict(saved.get("history", {}))
        self.evaluations = {row["site"]: Evaluation(**row) for row in saved["evaluations"]}


def trained(path: Path, ckpt_path: str | None) -> RunFolder:
    """Returns the folder of a run that has a selected model.

    Raises:
        ConfigError: If there is none.
    """
    folder = RunFolder(Path(ckpt_path) if ckpt_path else newest(path))
    if not folder.selected.is_file():
        raise ConfigError(
            f"{folder.path} holds no trained model (global.ckpt). Name the folder of a run that has finished a round."
        )
    return folder


def load_model_file(path: Path, module: FederatedModule) -> int:
    """Loads a model that a run has kept into a task whose network is built and returns the model's round.

    Raises:
        ConfigError: If the file is damaged or of another network.
    """
    checkpoint = _checkpoint(path)
    try:
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} is damaged or of another network: {reason}") from error
    return int(checkpoint["fedlight"]["round"])


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, pickle.UnpicklingError, RuntimeError, KeyError, ValueError) as error:  # RuntimeError: it was cut
        other = "leave --which out for the selected model"
        if path.name == "global.ckpt":
            other = "take the last round's with --which last, where the command has it"
        raise ConfigError(f"{path} is damaged. Bring it back, or {other}.") from error
    return checkpoint


def load_model(
    folder: RunFolder,
    module: FederatedModule,
    data: FederatedDataModule,
    seed: int,
    site: str | None,
    plugins: Sequence[ClientPlugin] = (),
    which: Which = "selected",
) -> int:
    """Builds a task, loads the model to predict with, the shared one or that of a site, and returns its round.

    Args:
        folder: Of the run.
        module: The task.
        data: Says what images are like.
        seed: Of the run.
        site: Whose model it is to be, where sites keep something of their own.
        plugins: Client plugins of the run: one may have trained a personal model.
        which: The selected model, or that of the last round.

    Raises:
        ConfigError: If sites keep something of their own and none is named, or one is named that does not.
    """
    module.forgo_pretraining()
    build(module, data, (), seed)
    round = load_model_file(folder.model(which), module)
    owners = sorted(path.parent.name for path in folder.sites.glob("*/selected.safetensors"))
    if site is None and not owners:
        return round
    if site not in owners:
        known = f"one of {', '.join(owners)}" if owners else "left out: this run has one model for all"
        raise ConfigError(
            f"site must be {known}, got {site or 'nothing'}. Sites with parameters of their own have a model each."
        )
    store = SiteStore(folder.sites / site)
    saved = store.selected() if which == "selected" else store.load(round)
    if saved is None:
        raise ConfigError(f"{store.folder} must hold what {site} keeps, but it is missing. Bring it back.")
    _load_own(module, plugins, saved)
    return round


def _load_own(module: FederatedModule, plugins: Sequence[ClientPlugin], saved: Mapping[str, Any]) -> None:
    """Loads what a site kept into the shared model: parameters and statistics of its own, a personal model."""
    state.load(module, saved["own"])
    for plugin in plugins:
        if type(plugin).personal is not ClientPlugin.personal:
            plugin.load_state_dict(saved["plugins"][plugin.instance_id])
            state.load(module, plugin.personal())


def _taken(path: Path) -> ConfigError:
    return ConfigError(
        f"run_folder must be free, got {path}, which another process took at the same moment. "
        "Start again, or name another."
    )


def _find(path: Path, ckpt_path: str | None, config: Mapping[str, Any]) -> RunFolder:
    """Returns the folder of the run to go on with, or a fresh one.

    "last" is the newest run under a name that was started with this config; if there is none, the newest.
    """
    if ckpt_path is None:
        return RunFolder(next_free(path))
    if ckpt_path == "last":
        runs = [RunFolder(folder) for folder in numbered(path)]
        same = [run for run in runs if not differences(run.config(), config)]
        return (same or runs or [RunFolder(path)])[-1]
    folder = RunFolder(Path(ckpt_path))
    if not folder.exists():
        raise ConfigError(
            f'ckpt_path must be "last" or the folder of a run, got {ckpt_path}, which has no config.yaml. Name a run.'
        )
    return folder


def _meaning(path: Path, folder: RunFolder) -> str:
    """Says which run "last" is under a name, where that is not plain."""
    number = len(numbered(path))
    if number == 0:
        return f"no run in {path} yet, so a new one begins"
    return f"{folder.path}, the newest with this config of {number} runs from {path} on" if number > 1 else ""


def _info(federation: Federation, data: FederatedDataModule, folder: RunFolder, server: Server) -> RunInfo:
    config = dict(federation.config)
    if "federation" in config:
        config["federation"] = {**config["federation"], "run_folder": str(folder.path)}
    return RunInfo(
        name=folder.path.name,
        folder=folder.path,
        config=config,
        sites=data.sites,
        held_out=data.held_out_sites,
        classes=data.format.classes,
        distance_unit=data.distance_unit,
        rounds=federation.rounds,
        local_steps={
            site: steps
            for site in data.sites
            if (steps := federation.local.steps_of(data.institutions(site))) is not None
        },
        method=" + ".join(each.instance_id for each in (server.aggregator, *server.plugins)),
        num_parameters=sum(value.numel() for value in server.params.values()),
        beyond=beyond_site_level((server.aggregator, *server.plugins), federation.shares_cases),
        privacy=str(federation.local.example_privacy or ""),
        clock=CLOCKED if federation.schedule.clock == "real" else "",
    )
