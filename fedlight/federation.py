"""The federation: rounds of broadcast, local training, updates and aggregation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from fedlight.adaptation import NO_HELP, Adaptation, check_recalibrate, shared_style
from fedlight.audit import Budget, audit
from fedlight.buffers import recalibrate as compute_anew
from fedlight.channel import Compression
from fedlight.checkpoint import RunFolder, Which
from fedlight.client import BufferPolicy, LocalTraining
from fedlight.cohort import Cohorts, Sampling, cohort_size, panel, plan
from fedlight.data.federated import FederatedDataModule
from fedlight.disclosure import officers_page
from fedlight.document import Page, require_ending, write
from fedlight.executors import Executor, InProcess
from fedlight.executors.executor import Phase
from fedlight.executors.workplace import torch_threads
from fedlight.export import Choice, check_output, export_model, read_record
from fedlight.history import rebased
from fedlight.plugins import Aggregator, ClientPlugin, Codec, Lossless
from fedlight.preparation import (
    ConfigError,
    build,
    check_codecs,
    check_exported_config,
    check_rounds,
    check_secure,
    check_secure_sites,
    check_trackers,
    check_trainer,
    check_whole,
    prepare,
    prototypes,
)
from fedlight.privacy.example_level import ExampleLevel
from fedlight.profile import show
from fedlight.real_time import RealTime, Started
from fedlight.replay import Replay as Replay
from fedlight.run import Run, load_model, trained
from fedlight.schedule import Buffered, Plan, Schedule, Synchronous
from fedlight.secure_aggregation import SecureAggregation
from fedlight.secure_round import SecureRound
from fedlight.server import RoundFailedError, Traffic
from fedlight.state import buffers_of, parameters_of
from fedlight.stopwatch import measuring, section
from fedlight.styles import draw_styles
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.inference import predict_folder, readable_images, require_free
from fedlight.tasks.views import Views
from fedlight.tracking import RoundRecord, Tracker
from fedlight.tracking.tracker import SiteRound
from fedlight.update import Broadcast, Evaluation, RoundContext, Shared, SiteFailure, Update

log = logging.getLogger("fedlight")

Weighting = Literal["samples", "uniform"]


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a round has to go on with.

    Attributes:
        context: Of the round.
        replies: Of the sites, which may train only as this is gone through.
        late: Sites that worked in vain.
        seconds: Times for the record.
        trained: The round that each site takes for the one that it worked in, where that may be an earlier one.
    """

    context: RoundContext
    replies: Iterator[tuple[str, object]]
    late: Sequence[SiteFailure]
    seconds: Mapping[str, float]
    trained: Mapping[str, int]


class Federation:
    """Trains one model at many sites and scores it at one that took no part; stands where a Trainer would.

    Args:
        aggregator: Makes the next global model from the updates of a round.
        plugins: Client plugins, in the order in which they act; those that harmonise images act first in any case.
        rounds: Number of rounds.
        local_epochs: Passes over its own data that a site makes in a round.
        local_steps: Optimizer steps of a site in a round, in place of ``local_epochs``. A client of pooled data makes
            those of all its sites.
        cohort: Share of the sites that take part in a round, in (0, 1], drawn anew for every round.
        sampling: "fixed" draws that share of the sites; "poisson" lets every site take part with that probability,
            whatever the others do, and draws again where fewer than ``min_sites`` would.
        availability: File that says which sites can be reached round by round (CSV with the columns round,site, or a
            JSON list of lists); the cohort is drawn among those. Rounds with fewer than ``min_sites`` are left out, and
            the file begins anew when it is over. By default all can always be reached.
        schedule: When sites work: in step by default; ``Deadline`` goes on without those that are late, ``Buffered``
            lets each work at its own pace and counts stale updates less. How long sites take is simulated, or, with
            ``clock: real``, what it is. ``Replay`` repeats such a run.
        min_sites: Usable updates that a round needs; with fewer the run stops and its last good state is kept.
        weighting: Whether a site counts by its training cases or like every other.
        buffers: Running statistics of BatchNorm: "average" fuses them over the sites (law of total variance), "local"
            leaves them at the sites, "recalibrate" computes them anew from a site's own images before it evaluates.
            With the last two, an unseen site's come from its own unlabelled images.
        optimizer_state: "reset" gives every round a fresh optimizer, as in FedAvg; "keep" goes on with the site's own.
        evaluate_every: Rounds between evaluations on the sites' validation cases; the last round is always evaluated.
        evaluate_sites: How many sites score the global model in a round: the same ones in every round, drawn by the
            seed. By default all; ``validate`` and ``test`` score at all sites in any case.
        select: Which model is kept in global.ckpt: the one with the best mean validation Dice over the sites that
            train, or that of the last round.
        patience: Evaluations without a better score after which training stops early; null never stops.
        share_cases: Whether scores of single cases may be collected, not only their means.
        uplink: Codecs that write what a site changed, one after the other; by default the model is sent as it is.
        downlink: Codecs that write what changed in the model that the sites have; by default it is sent as it is.
        error_feedback: Whether a site adds what its codecs lost to its next update.
        example_privacy: How little a site's updates may depend on any one of its patients (``ExampleLevel``); by
            default nothing bounds it.
        secure_aggregation: Lets the server learn the sum of the updates and no single one, with aggregators and plugins
            that need no more; three sites or more take part in every round. By default it sees every update.
        threads: Threads of torch while a site works; torch's own choice if left out. Small networks gain little from
            a second one, and runs repeat bit for bit at the same number.
        executor: Where clients run.
        trackers: What else records the run, beside the console and the run folder's own files.
        run_folder: Folder of the run; a number is put behind it where a run was already started.
        seed: The run's seed: equal seeds give equal bits.
        trainer: Arguments of every client's own Lightning Trainer.
        config: The resolved config to keep in the run folder, plain values.
        console: Whether to report in the terminal.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        plugins: Sequence[ClientPlugin] = (),
        rounds: int = 10,
        local_epochs: int = 1,
        local_steps: int | None = None,
        cohort: float = 1.0,
        sampling: Sampling = "fixed",
        availability: str | None = None,
        schedule: Schedule | None = None,
        min_sites: int = 1,
        weighting: Weighting = "samples",
        buffers: BufferPolicy = "average",
        optimizer_state: Literal["reset", "keep"] = "reset",
        evaluate_every: int = 1,
        evaluate_sites: int | None = None,
        select: Literal["best", "last"] = "best",
        patience: int | None = None,
        share_cases: bool = True,
        uplink: Sequence[Codec | Lossless] = (),
        downlink: Sequence[Codec | Lossless] = (),
        error_feedback: bool = True,
        example_privacy: ExampleLevel | None = None,
        secure_aggregation: SecureAggregation | None = None,
        threads: int | None = None,
        executor: Executor | None = None,
        trackers: Sequence[Tracker] = (),
        run_folder: str = "runs/run",
        seed: int = 0,
        trainer: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        console: bool = True,
    ) -> None:
        self.aggregator, self.plugins = aggregator, plugins
        self.rounds, self.cohort, self.min_sites, self.weighting = rounds, cohort, min_sites, weighting
        self.sampling, self.availability, self.schedule = sampling, availability, schedule or Synchronous()
        self.evaluate_every, self.evaluate_sites, self.select = evaluate_every, evaluate_sites, select
        self.patience = patience
        self.local = LocalTraining(
            epochs=local_epochs,
            steps=local_steps,
            optimizer_state=optimizer_state,
            buffers=buffers,
            share_cases=share_cases,
            threads=threads,
            trainer=trainer or {},
            measures=tuple(aggregator.measures),
            compression=Compression(uplink, downlink, error_feedback),
            example_privacy=example_privacy,
            secure=secure_aggregation,
        )
        self.executor = executor or InProcess()
        self.trackers, self.console = trackers, console
        self.run_folder = Path(run_folder)
        self.seed = seed
        self.config = config or {}

    @property
    def shares_cases(self) -> bool:
        """Whether this config lets scores of single cases leave sites; in a deployment each settles that itself."""
        return self.local.share_cases and not self.executor.remote

    # --- what a user calls -----------------------------------------------------------------------------------------

    def fit(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        ckpt_path: str | None = None,
        profile: bool = False,
    ) -> RunFolder:
        """Trains the federation round by round.

        Args:
            model: The task that every client trains.
            datamodule: Data of the sites.
            ckpt_path: "last" goes on with the run in the run folder, or starts it where there is none; the path of a
                run folder goes on with that run.
            profile: Whether to say in the end where the time went; of sites in other processes only that of waiting.

        Returns:
            The run folder.

        Raises:
            ConfigError: If a setting or the data cannot work; nothing has been trained then.
            RoundFailedError: If a round has too few usable updates; the run can be continued.
        """
        run = self._open(model, self.executor.sees(datamodule), ckpt_path)
        done = run.server.round
        with run.claim(), self._at_work(run), measuring() if profile else nullcontext() as watch:
            for number in range(done + 1, self.rounds + 1):
                if run.selection.exhausted:
                    break
                try:
                    with section("rounds: all else"):
                        self._round(run, number)
                except RoundFailedError as error:
                    if not error.spent:
                        raise
                    log.warning("training ends after round %d: the sites have spent their privacy", number - 1)
                    break
            if run.clock is not None:
                run.clock.end()
            run.show()
        if watch is not None:
            show(watch, run.server.round - done, run.folder.path)
        return run.folder

    def validate(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        ckpt_path: str | None = None,
        which: Which = "selected",
    ) -> list[Evaluation]:
        """Scores a run on the validation cases of the sites that trained, in detail.

        Args:
            model: The task.
            datamodule: Data of the sites.
            ckpt_path: The run's folder.
            which: The selected model, or that of the last round.
        """
        return self._score(model, datamodule, ckpt_path, "validate", which)

    def test(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        ckpt_path: str | None = None,
        which: Which = "selected",
        tta: Views | None = None,
        normalise_style: bool = False,
        recalibrate: bool = False,
    ) -> list[Evaluation]:
        """Scores a run on the sites' test cases and on the institution that took no part, in detail.

        What helps at test time has rows of its own, at the institution that took no part, beside those without help.

        Args:
            model: The task.
            datamodule: Data of the sites.
            ckpt_path: The run's folder.
            which: The selected model, or that of the last round.
            tta: Test-time augmentation: class probabilities are means over views, "flips" (4) or all symmetries of the
                "square" (8).
            normalise_style: Whether images are given the mean style that the run's sites have shared of theirs.
            recalibrate: Whether running statistics of BatchNorm are computed anew from the images, without their masks.
        """

        def help_for(run: Run) -> Adaptation:
            self._check_help_to_score(data=datamodule)
            return self._help(run.folder, run.server.plugins, model, datamodule, tta, normalise_style, recalibrate)

        asked = tta is not None or normalise_style or recalibrate
        return self._score(model, datamodule, ckpt_path, "test", which, help_for if asked else None)

    def predict(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        input: str,
        output: str,
        probabilities: bool = False,
        site: str | None = None,
        ckpt_path: str | None = None,
        tta: Views | None = None,
        normalise_style: bool = False,
        recalibrate: bool = False,
        uncertainty: bool = False,
    ) -> list[dict[str, Any]]:
        """Segments an image or a folder of images with a run's selected model; needs no data but those images.

        Args:
            model: The task.
            datamodule: Says how images are read and normalised; its own cases are not touched.
            input: An image or a folder of images.
            output: Folder for masks, overlays and predictions.csv; one that holds such results of an earlier call is
                refused.
            probabilities: Whether to write class probabilities too.
            site: Whose model to take, where sites keep parameters or running statistics of their own.
            ckpt_path: The run's folder.
            tta: Test-time augmentation: class probabilities are means over views, "flips" (4) or all symmetries of the
                "square" (8).
            normalise_style: Whether images are given the mean style that the run's sites have shared of theirs.
            recalibrate: Whether running statistics of BatchNorm are computed anew from all these images together.
            uncertainty: Whether to write maps of the predictive entropy too, and its means into predictions.csv.
        """
        self._check_results(Path(output))
        folder = trained(self.run_folder, ckpt_path)
        if self.executor.remote:
            self._require_shared(model, datamodule)
        _, plugins = prototypes(self.aggregator, self.plugins)
        load_model(folder, model, datamodule, self.seed, site, plugins)
        adaptation = self._help(folder, plugins, model, datamodule, tta, normalise_style, recalibrate)
        adaptation.prepare(model)
        images = [Path(input)]
        try:
            if buffers_of(model) and (adaptation.recalibrate or self.local.buffers == "recalibrate"):
                compute_anew(model, map(model.seen, readable_images(datamodule, images, Path(output))))
            return predict_folder(model, datamodule, images, Path(output), probabilities, uncertainty=uncertainty)
        except ValueError as error:  # no image among the inputs
            raise ConfigError(str(error)) from error

    def export(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        format: Choice,
        output: str,
        which: Which = "selected",
        site: str | None = None,
        ckpt_path: str | None = None,
    ) -> list[str]:
        """Writes a run's model for other programs, opens it again and compares; or its model card alone.

        Args:
            model: The task.
            datamodule: Says how images are read and normalised; its own cases are not touched.
            format: onnx, torchscript, safetensors or monai-bundle, each with a description and the model card; or card.
            output: Folder to make; for the card, a file that ends in .md.
            which: The selected model, or that of the last round.
            site: Whose model to take, where sites keep parameters or running statistics of their own.
            ckpt_path: The run's folder.

        Returns:
            What there is to say, sentence by sentence.

        Raises:
            ConfigError: If it cannot be written as that; nothing is left of it then.
            ExportError: If what was written gives other logits; nothing is left of it then.
        """
        check_output(format, Path(output))
        folder = trained(self.run_folder, ckpt_path)
        if self.config:
            check_exported_config(folder.config(), self.config)
        aggregator, plugins = prototypes(self.aggregator, self.plugins)
        round = load_model(folder, model, datamodule, self.seed, site, plugins, which)
        check_whole(model, plugins, self.local.buffers, site)
        record = read_record(folder, round, which, site)
        return export_model(self, [aggregator, *plugins], folder, record, model, datamodule, format, Path(output))

    def styles(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        output: str = "styles",
        stage: str = "bottleneck",
        ckpt_path: str | None = None,
        compare: str | None = None,
    ) -> list[str]:
        """Draws what every style plugin makes of the sites' images, and how the sites' features differ.

        Args:
            model: The task.
            datamodule: Data of the sites; the institution that takes no part is not looked at.
            output: Folder for styles.png and features.png.
            stage: Where features are looked at.
            ckpt_path: The folder of a run whose model is shown beside the untrained one.
            compare: The folder of another run with the same network, for instance one without alignment.

        Returns:
            What there is to say about the pictures, sentence by sentence.
        """
        prepare(datamodule)
        _, plugins = prototypes(self.aggregator, self.plugins)
        build(model, datamodule, plugins, self.seed)
        runs = [trained(self.run_folder, path) for path in (ckpt_path, compare) if path is not None]
        models = {_name(run, runs): run.selected for run in runs}
        return draw_styles(model, datamodule, plugins, Path(output), stage, models, self.seed)

    def privacy(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        output: str | None = None,
        ckpt_path: str | None = None,
    ) -> Page:
        """Says what would leave a site, tensor by tensor, before anything runs; trains nothing and sends nothing.

        Args:
            model: The task.
            datamodule: Data of the sites; only how many cases there are and what they are like is looked at.
            output: File for the whole page: .html, .md or .json.
            ckpt_path: The folder of a run whose config is looked at; its model is not.

        Raises:
            ConfigError: As ``fit`` would, or if the file cannot be written as that.
        """
        try:
            if output is not None:
                require_ending(Path(output))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        data = self.executor.sees(datamodule)
        page = officers_page(self, self._open(model, data, None), data)
        if output is not None:
            write(page, Path(output))
        return page

    def audit(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        output: str = "audit",
        site: str | None = None,
        steps: int = 300,
        restarts: int = 2,
        size: int = 32,
        noise: float = 0.1,
        ckpt_path: str | None = None,
    ) -> Page:
        """Attacks a run where its data are, and writes what images it gives away, with and without protections.

        Args:
            model: The task.
            datamodule: The run's own data: of a simulation, or of a site.
            output: Folder for audit.html, audit.json and pictures, all of which show patients.
            site: Whose images are attacked; the first one if left out.
            steps: Steps of the attacker from every start; how long they will take is said first.
            restarts: Starts of the attacker, the first from the mean of other images; the best fit is kept.
            size: Longer side of the images that are attacked; larger ones are made smaller.
            noise: Noise of a supposed case, where the run has none of its own; 0 leaves that out.
            ckpt_path: The run's folder.
        """
        data = self.executor.sees(datamodule)
        prepare(data)
        run = Run.reopen(self, model, data, ckpt_path)
        with torch_threads(self.local.threads):
            return audit(self, run, data, Path(output), site, Budget(steps, restarts, size, noise))

    def offered(
        self, model: FederatedModule, datamodule: FederatedDataModule, institution: str, ckpt_path: str
    ) -> Iterator[tuple[str, FederatedModule]]:
        """Makes the models that ``test`` scores at an institution that took no part, of the selected round.

        Args:
            model: The task.
            datamodule: Data of the sites.
            institution: One that took no part.
            ckpt_path: The run's folder.

        Yields:
            Name of a model ("global", a site, "mean", "ensemble") and the task that holds it, until the next one.
        """
        prepare(datamodule)
        run = Run.reopen(self, model, datamodule, ckpt_path)
        run.num_samples = {site: datamodule.num_samples(site) for site in run.sites}
        context = self._context(run, max(run.server.round, 1), run.sites)
        yield from run.offered(run.server.broadcast(context, deployed=True), institution)

    def _check_results(self, output: Path) -> None:
        try:
            require_free(output)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    # --- one round ---------------------------------------------------------------------------------------------------

    def _round(self, run: Run, number: int) -> None:
        """Broadcast, local training, aggregation, evaluation, record, checkpoint."""
        begun = time.perf_counter()
        traffic = Traffic()
        turn = self._planned(run, number, traffic) if run.clock is None else self._clocked(run, number, traffic)
        context = turn.context
        try:
            sites, failures = self._train(run, turn, traffic)
        except RoundFailedError as error:
            failures = [*error.failures, *turn.late]
            run.tracker.on_round(RoundRecord(number, self.rounds, context.cohort, (), failures=tuple(failures)))
            raise
        run.took_part |= {site.site: turn.trained.get(site.site, number) for site in sites}
        trained = time.perf_counter()
        due = number % self.evaluate_every == 0 or number == self.rounds
        evaluations, silent = self._evaluate(run, context, "evaluate", traffic) if due else ([], [])
        run.evaluations |= {evaluation.site: replace(evaluation, cases=()) for evaluation in evaluations}
        # a mean over fewer institutions than before says nothing about which round is better
        selected = bool(evaluations) and not silent and run.selection.update(number, run.evaluations)
        ended = time.perf_counter()
        seconds = {"fit": trained - begun, "evaluate": ended - trained, "round": ended - begun}
        record = RoundRecord(
            round=number,
            rounds=self.rounds,
            cohort=context.cohort,
            sites=tuple(sites),
            evaluations=tuple(evaluations),
            failures=(*failures, *turn.late, *silent),
            seconds={**seconds, **turn.seconds},
            selected=selected,
            bytes_evaluate=traffic.evaluate,
            metrics=run.server.aggregator.report(),
        )
        with section("record"):
            run.tracker.on_round(record)
        # before the first evaluation the newest model is the best one known
        with section("checkpoint"):
            run.keep(selected or self.select == "last" or run.selection.best_round == 0)

    def _planned(self, run: Run, number: int, traffic: Traffic) -> _Turn:
        """Begins a round of which it is known beforehand who takes part."""
        plan = next(run.plans)
        context = self._context(run, number, plan.cohort or tuple(plan.starts))
        late = [SiteFailure(site, number, "fit", "late", "not done in time (simulated)") for site in plan.late]
        seconds = {} if plan.time is None else {"simulated": plan.time}
        trained = {site: version + 1 for site, version in plan.starts.items()} if plan.dated else {}
        return _Turn(context, self._replies(run, context, plan, traffic), late, seconds, trained)

    def _clocked(self, run: Run, number: int, traffic: Traffic) -> _Turn:
        """Lets sites begin and waits for those with whom the round goes on, by the real clock."""
        assert run.clock is not None

        def messages(sites: tuple[str, ...]) -> dict[str, Broadcast]:
            return run.server.messages(self._context(run, number, sites), sites, "fit")

        with section("waiting for sites"):
            found = run.clock.round(number, messages, self._least)
        if number == self.rounds:  # no round is left to which the others could come
            run.clock.end()
        context = self._context(run, number, found.cohort)
        trained = {site: started.version + 1 for site, (started, _) in found.replies.items()}
        return _Turn(context, self._arrived(run, context, found.replies, traffic), found.late, {}, trained)

    def _least(self, asked: int) -> int:
        """Returns how many updates a round needs in which so many sites were asked."""
        secure = self.local.secure
        return self.min_sites if secure is None else max(self.min_sites, secure.needed(asked))

    def _train(self, run: Run, turn: _Turn, traffic: Traffic) -> tuple[list[SiteRound], list[SiteFailure]]:
        """Moves the global model by what the sites have trained; returns what they did, and the failures."""
        if self.local.secure is None:
            return run.server.collect(turn.context, turn.replies, self.min_sites, traffic)
        buffers = self.local.buffers == "average" and bool(run.server.public)
        secure = SecureRound(
            self.local.secure, run.server, turn.context, buffers, self.executor.call, traffic, self.min_sites
        )
        return secure.collect(turn.replies)

    def _replies(self, run: Run, context: RoundContext, plan: Plan, traffic: Traffic) -> Iterator[tuple[str, object]]:
        """Lets the sites train, each from its version; what a stale one changed is taken to the newest."""
        messages = run.server.messages(context, plan.starts, "fit")
        if self.local.secure is not None:
            yield from self._ask(run, context, "fit", messages, traffic.sent)
            return
        now, newest = run.server.broadcast(context), context.round - 1
        for site, version in plan.starts.items():
            if version != newest:
                messages[site] = run.history.broadcast(version, now)
                if plan.dated:
                    messages[site] = replace(
                        messages[site], context=replace(context, round=version + 1, evaluations={})
                    )
        for site, reply in self._ask(run, context, "fit", messages, traffic.sent):
            yield site, self._taken(run, site, reply, now, Started(plan.starts[site], messages[site]), traffic)
        run.history.remember(newest, now, plan.pending)

    def _arrived(
        self, run: Run, context: RoundContext, replies: Mapping[str, tuple[Started, object]], traffic: Traffic
    ) -> Iterator[tuple[str, object]]:
        """Reads what sites have trained that began when they were free."""
        now = run.server.broadcast(context)
        for site, (started, reply) in replies.items():
            traffic.sent(site, started.message)
            secure = self.local.secure is not None
            yield site, reply if secure else self._taken(run, site, reply, now, started, traffic)

    def _taken(self, run: Run, site: str, reply: object, now: Broadcast, started: Started, traffic: Traffic) -> object:
        """Reads a reply as one of this round: what a site changed that began before is taken to the newest model."""
        stale = now.round - 1 - started.version
        if isinstance(reply, Update):
            traffic.up[site] = reply.bytes_by_part
        opened = run.server.opened(site, reply, started.message if stale else now)
        if isinstance(opened, Update | SiteFailure) and opened.round == started.message.round != now.round:
            opened = replace(opened, round=now.round)
        if stale and isinstance(opened, Update):
            opened = self._rebased(opened, started.message, now, stale)
        return opened

    def _ask(
        self,
        run: Run,
        context: RoundContext,
        phase: Phase,
        messages: dict[str, Broadcast],
        sent: Callable[[str, Broadcast], None],
    ) -> Iterator[tuple[str, object]]:
        """Runs a phase; sites without the version that their message goes on from are sent the whole model in the end.

        A site elsewhere has lost it if it was restarted, or has been told to go on from a round before.
        """
        outdated: list[str] = []
        for site, message in messages.items():
            sent(site, message)
        for site, reply in self.executor.call(phase, messages):
            known = messages[site].model in ("kept", "delta")
            if known and isinstance(reply, SiteFailure) and reply.kind == "outdated":
                run.server.opened(site, reply, messages[site])
                outdated.append(site)
            else:
                yield site, reply
        if outdated:
            messages.update(run.server.messages(context, outdated, phase))
            yield from self._ask(run, context, phase, {site: messages[site] for site in outdated}, sent)

    def _rebased(self, update: Update, start: Broadcast, now: Broadcast, staleness: int) -> Update:
        moved = rebased(update, start, now, (1 + staleness) ** -self.schedule.exponent)
        return replace(moved, metrics={**update.metrics, "staleness": float(staleness)})

    def _context(self, run: Run, number: int, cohort: tuple[str, ...]) -> RoundContext:
        samples = run.num_samples
        return RoundContext(
            round=number,
            rounds=self.rounds,
            seed=self.seed,
            sites=run.sites,
            cohort=cohort,
            num_samples=samples,
            weights={site: float(samples[site] if self.weighting == "samples" else 1) for site in run.sites},
            evaluations=dict(run.evaluations),
            rate=float(self.cohort) if self.sampling == "poisson" else 1.0,
        )

    def _evaluate(
        self, run: Run, context: RoundContext, phase: Phase, traffic: Traffic
    ) -> tuple[list[Evaluation], list[SiteFailure]]:
        """Scores the global model: after a round at the sites that are to do so, else at every site."""
        sites = panel(run.sites, self.evaluate_sites, self.seed) if phase == "evaluate" else run.sites
        messages = run.server.messages(context, sites, phase)
        evaluations: list[Evaluation] = []
        failures: list[SiteFailure] = []
        for site, reply in self._ask(run, context, phase, messages, traffic.sent_to_score):
            run.server.opened(site, reply, messages[site])
            if isinstance(reply, SiteFailure):
                failures.append(reply)
            elif isinstance(reply, tuple):
                evaluations.extend(reply)
        return evaluations, failures

    # --- around the rounds -------------------------------------------------------------------------------------------

    def _open(self, model: FederatedModule, data: FederatedDataModule, ckpt_path: str | None) -> Run:
        """Checks everything, then makes or finds the run."""
        prepare(data)
        check_rounds(
            self.rounds,
            self.local.epochs,
            self.local.steps,
            self.evaluate_every,
            self.local.threads,
            self.cohort,
            self.min_sites,
            len(data.sites),
            self.patience,
            self.sampling,
            self.evaluate_sites,
        )
        check_trainer(self.local.trainer)
        check_trackers(self.trackers)
        check_codecs(self.local.compression, isinstance(self.schedule, Synchronous), self.aggregator)
        cohorts = self._cohorts(data.sites, data.held_out_sites)
        if self.local.secure is not None:
            self._check_secure(self.local.secure, len(data.sites))
        run = Run.start(self, model, data, ckpt_path)
        if self.executor.remote and data.held_out_sites and run.server.private:
            unseen = ", ".join(data.held_out_sites)
            log.warning("%s will not be scored: parameters stay at the sites, so there is no model for others", unseen)
        if isinstance(self.schedule, Buffered) and self.schedule.clock == "real" and self.evaluate_every == 1:
            log.warning("every version is scored, which waits for all sites: let evaluate_every be larger than 1")
        run.dated = self.schedule.dated
        if self.schedule.clock == "real":
            run.clock = RealTime(self.executor, self.schedule, cohorts)
        else:
            run.plans = islice(self.schedule.plans(cohorts), run.server.round, None)
        return run

    def _require_shared(self, model: FederatedModule, data: FederatedDataModule) -> None:
        """Refuses to predict with a model of which parts never left the sites: the server has them untrained.

        Raises:
            ConfigError: If sites elsewhere keep parameters or running statistics of their own.
        """
        _, plugins = prototypes(self.aggregator, self.plugins)
        model.forgo_pretraining()
        build(model, data, (), self.seed)
        private = any(plugin.private(parameters_of(model)) for plugin in plugins)
        if private or (self.local.buffers == "local" and buffers_of(model)):
            kept = "parameters" if private else "running statistics"
            raise ConfigError(
                f"predict must have a model of which nothing stays at the sites, got a run in which {kept} do. "
                "Score it where they are: fedlight deploy run DIR test."
            )

    def _check_secure(self, setting: SecureAggregation, sites: int) -> None:
        """Checks that the server can do with sums, and that there are always enough sites in them."""
        check_secure(setting, *prototypes(self.aggregator, self.plugins), coded=bool(self.local.compression.uplink))
        if isinstance(self.schedule, Buffered):
            raise ConfigError(
                "schedule must be one in which sites work together, got Buffered. Leave it out, or take Deadline."
            )
        fixed = self.sampling == "fixed" and self.availability is None and isinstance(self.schedule, Synchronous)
        size = cohort_size(self.cohort, sites)
        check_secure_sites(setting, size if fixed else self.min_sites, "cohort" if fixed else "min_sites")

    def _cohorts(self, sites: tuple[str, ...], held_out: Sequence[str]) -> Cohorts:
        """Plans who takes part in the rounds."""
        name = type(self.executor).__name__
        if self.schedule.clock == "real" and not self.executor.concurrent:
            raise ConfigError(
                f"executor must be one whose sites work at the same time for schedule.clock real, got {name}. "
                "Take MultiProcess or Flower, or leave the clock out."
            )
        if isinstance(self.schedule, Buffered) and (self.cohort < 1 or self.availability is not None):
            raise ConfigError(
                "cohort and availability must be left out with Buffered, as no cohort is drawn there, got "
                f"{self.cohort:g} and {self.availability}. How many sites work says its concurrency."
            )
        if self.sampling == "poisson" and not self.schedule.left_to_chance:
            raise ConfigError(
                f"sampling must be fixed with {type(self.schedule).__name__} where it is speed that decides on who "
                "takes part, got poisson: privacy would be accounted as if chance alone did. Leave it out."
            )
        if self.sampling == "poisson" and self.aggregator.amplified and self.min_sites > 1:
            raise ConfigError(
                f"min_sites must be 1 with poisson sampling and an amplified {type(self.aggregator).__name__}, got "
                f"{self.min_sites}: smaller draws are repeated, so sites take part more often than epsilon presumes. "
                "Leave it out, or amplified."
            )
        try:
            self.schedule.check(len(sites), self.min_sites)
            if self.rounds > self.schedule.most:
                raise ValueError(
                    f"rounds must be at most {self.schedule.most}, got {self.rounds}: there are no more in the record."
                )
            seed, availability = self.seed, self.availability
            return plan(sites, self.cohort, self.sampling, self.min_sites, seed, availability, held_out)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @contextmanager
    def _at_work(self, run: Run) -> Iterator[None]:
        """Opens executor and trackers and closes them whatever happens."""
        run.open(self.executor)
        try:
            yield
        except KeyboardInterrupt:
            run.tracker.finish("interrupted", {})
            raise
        except BaseException:
            run.tracker.finish("failed", {})
            raise
        else:
            run.finish()
        finally:
            self.executor.close()

    def _score(
        self,
        model: FederatedModule,
        data: FederatedDataModule,
        ckpt_path: str | None,
        phase: Phase,
        which: Which,
        help_for: Callable[[Run], Adaptation] | None = None,
    ) -> list[Evaluation]:
        """Scores a model of a run at the sites and, in "test", at the institution that took no part."""
        data = self.executor.sees(data)
        prepare(data)
        run = Run.reopen(self, model, data, ckpt_path, which)
        adaptation = NO_HELP if help_for is None else help_for(run)
        with self._at_work(run):
            context = self._context(run, max(run.server.round, 1), run.sites)
            evaluations, failures = self._evaluate(run, context, phase, Traffic())
            run.record("val" if phase == "validate" else phase, evaluations)
            if phase == "test":
                for help in (NO_HELP, adaptation) if adaptation != NO_HELP else (NO_HELP,):
                    broadcast = run.server.broadcast(context, deployed=True)
                    evaluations += run.score_held_out(broadcast, data.held_out_sites, help)
            if failures:
                raise RoundFailedError("; ".join(str(failure) for failure in failures), failures)
        return evaluations

    def _help(
        self,
        folder: RunFolder,
        plugins: Sequence[ClientPlugin],
        module: FederatedModule,
        data: FederatedDataModule,
        tta: Views | None,
        normalise_style: bool,
        recalibrate: bool,
    ) -> Adaptation:
        """Checks what help was asked for, and gets it ready.

        Raises:
            ConfigError: If the run has nothing to help with.
        """
        if recalibrate:
            check_recalibrate(module, self.local.buffers)
        style = shared_style(plugins, _shared(folder), data.format) if normalise_style else None
        return Adaptation(tta, style, recalibrate)

    def _check_help_to_score(self, data: FederatedDataModule) -> None:
        """Refuses help where there is nobody to help, or where the images are not.

        Raises:
            ConfigError: If so.
        """
        asked = "tta, normalise_style and recalibrate"
        if self.executor.remote:
            raise ConfigError(
                f"{asked} must be left out where sites are elsewhere. predict has them, where images are."
            )
        if not data.held_out_sites:
            raise ConfigError(
                f"{asked} help an institution that took no part, got a run that held none out. Leave them out."
            )


def _shared(folder: RunFolder) -> Shared:
    """Returns what the sites of a run have shared last.

    Raises:
        ConfigError: If the run folder has it no more.
    """
    saved = folder.load()
    if saved is None:
        raise ConfigError(
            f"normalise_style must have {folder.rounds}, where a run keeps what sites shared. Copy it too."
        )
    shared: Shared = saved["server"]["shared"]
    return shared


def _name(run: RunFolder, runs: Sequence[RunFolder]) -> str:
    """Names a run by its folder, or by the whole path where folders of that name are compared."""
    return run.path.name if sum(run.path.name == other.path.name for other in runs) == 1 else str(run.path)
