"""What happens between reading a config and the first round: checks, copies, initial weights."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from fedlight.channel import Compression
from fedlight.cohort import Sampling, cohort_size
from fedlight.configs import flat as flat
from fedlight.data.federated import DataError, FederatedDataModule
from fedlight.errors import ConfigError as ConfigError
from fedlight.plugins import Aggregator, ClientPlugin, Codec, Harmonisation, Lossless, Plugin
from fedlight.plugins.combinations import check_shared, check_together
from fedlight.privacy.example_level import ExampleLevel, check_run
from fedlight.randomness import seeded
from fedlight.secure_aggregation import SecureAggregation
from fedlight.state import buffers_of, parameters_of
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tracking.tracker import Tracker
from fedlight.trainer import make_trainer


def prototypes(aggregator: Aggregator, plugins: Sequence[ClientPlugin]) -> tuple[Aggregator, list[ClientPlugin]]:
    """Copies what the config built and names every instance.

    Returns:
        The aggregator, and the client plugins in the order in which they act: those that harmonise first, as nothing
        would be left of what others had made of an image; then the aggregator's own client half; then as listed.

    Raises:
        ConfigError: If a plugin does not accept its arguments or the other plugins.
    """
    aggregator = copy.deepcopy(aggregator)
    half = aggregator.client_half()
    listed = copy.deepcopy(list(plugins))
    clients = sorted(
        [*([half] if half is not None else []), *listed], key=lambda plugin: not isinstance(plugin, Harmonisation)
    )
    seen: Counter[str] = Counter()
    for plugin in [aggregator, *clients]:
        name = type(plugin).__name__
        seen[name] += 1
        plugin.instance_id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        try:
            plugin.validate()
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
    try:
        check_together(aggregator, half, listed)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return aggregator, clients


def prepare(data: FederatedDataModule) -> None:
    """Reads and checks the data.

    Raises:
        ConfigError: If no site is left to train, or with every finding of the data module.
    """
    try:
        data.prepare()
    except DataError as error:
        raise ConfigError(*error.args) from error
    if not data.sites:
        raise ConfigError("sites must leave at least one site to train, got none besides the held-out one. Add a site.")


def build(module: FederatedModule, data: FederatedDataModule, plugins: Sequence[Plugin], seed: int) -> None:
    """Fits a task to the data and builds its network; its initial weights depend on the seed alone.

    Raises:
        ConfigError: If the task cannot be built or a plugin cannot work with it, its optimizer or the data.
    """
    try:
        module.bind(data.format)
        with seeded(seed, "initial weights"):
            module.configure_model()
        optimizer = module.configure_optimizers()
        stages = module.stages()
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"model: {error}") from error
    params = parameters_of(module)
    for plugin in plugins:
        try:
            plugin.check(data.format)
            plugin.check_optimizer(optimizer)
            if isinstance(plugin, ClientPlugin):
                plugin.private(params)
                optimizer = plugin.wrap_optimizer(optimizer)
        except ValueError as error:
            raise ConfigError(f"{plugin.instance_id}: {error}") from error
        for stage in plugin.stages if isinstance(plugin, ClientPlugin) else ():
            if stage not in stages:
                raise ConfigError(
                    f"{plugin.instance_id}: stages must be among {', '.join(stages)}, got {stage}. Name one of these."
                )
    try:
        check_shared([plugin for plugin in plugins if isinstance(plugin, ClientPlugin)], params)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_private(
    settings: ExampleLevel | None,
    module: FederatedModule,
    aggregator: Aggregator,
    plugins: Sequence[ClientPlugin],
    trainer: Mapping[str, Any],
) -> None:
    """Checks what a run under example-level privacy is made of; its network is built.

    Raises:
        ConfigError: If a setting cannot work, or lets a patient count for more than is charged.
    """
    if settings is None:
        return
    try:
        settings.validate()
        module.check_examples()
        check_run(aggregator, plugins, trainer)
    except ValueError as error:
        raise ConfigError(f"example_privacy: {error}") from error


def check_buffers(policy: str, buffers: Mapping[str, Tensor], private: Collection[str]) -> None:
    """Checks that a policy for running statistics has some to work on.

    Args:
        policy: "average", "local" or "recalibrate".
        buffers: Those of the network.
        private: Names of the parameters that stay at the sites; where there are some, the policy goes with them.

    Raises:
        ConfigError: If the run would be that of another policy.
    """
    if policy != "average" and not buffers and not private:
        raise ConfigError(
            f"buffers must be average where a network has no running statistics, got {policy}. "
            "Leave it out, or set model.norm to batch."
        )


def check_codecs(compression: Compression, in_step: bool, aggregator: Aggregator) -> None:
    """Checks what updates and broadcasts are written with.

    Args:
        compression: The codecs.
        in_step: Whether all sites of a round start from the newest model.
        aggregator: Of the run.

    Raises:
        ConfigError: If a codec does not accept its arguments, or they cannot follow each other.
    """
    for direction, codecs in (("uplink", compression.uplink), ("downlink", compression.downlink)):
        for place, codec in enumerate(codecs, start=1):
            name = type(codec).__name__
            try:
                codec.validate()
            except ValueError as error:
                raise ConfigError(f"{name}: {error}") from error
            if isinstance(codec, Lossless) and place < len(codecs):
                raise ConfigError(f"{name} must be last in {direction}, got place {place} of {len(codecs)}. Move it.")
            if isinstance(codec, Codec) and not codec.contracts and compression.error_feedback:
                raise ConfigError(f"{name} must be set to make things smaller for error_feedback. Switch either off.")
    lossy = [type(codec).__name__ for codec in compression.uplink if isinstance(codec, Codec) and not codec.exact]
    if lossy and aggregator.bounded:
        raise ConfigError(
            f"uplink must keep every bit for {type(aggregator).__name__}, got {' and '.join(lossy)}: changes would be "
            "longer than its bound, and epsilon larger than it says. Use codecs on the downlink."
        )
    if compression.downlink and not in_step:
        raise ConfigError("downlink must be left out with a schedule in which sites start from older models.")


def check_secure(
    setting: SecureAggregation, aggregator: Aggregator, plugins: Sequence[ClientPlugin], coded: bool
) -> None:
    """Checks that nothing in a run needs what a single site sends.

    Args:
        setting: How updates are summed.
        aggregator: Of the run.
        plugins: All client plugins of the run.
        coded: Whether updates are written with codecs.

    Raises:
        ConfigError: With the first thing that cannot work.
    """
    try:
        setting.validate()
    except ValueError as error:
        raise ConfigError(f"secure_aggregation: {error}") from error
    if find_spec("cryptography") is None:
        raise ConfigError(
            "secure_aggregation needs the package cryptography, which is not installed. "
            "Get it with: pip install 'fedlight[secure]'."
        )
    if not aggregator.linear:
        raise ConfigError(
            f"{type(aggregator).__name__} needs every site's update, and secure_aggregation hides them. "
            "Use FedAvg or another that needs their mean only, or leave secure_aggregation out."
        )
    for plugin in plugins:
        if type(plugin).add is not ClientPlugin.add and not plugin.linear:
            raise ConfigError(
                f"{plugin.instance_id} needs what every site shares, and secure_aggregation hides it. "
                "Leave either of them out."
            )
    if coded:
        raise ConfigError(
            "uplink must be left out under secure_aggregation: masked numbers cannot be written in fewer bytes."
        )


def check_secure_sites(setting: SecureAggregation, fewest: int, decided_by: str) -> None:
    """Checks that rounds have enough sites for a sum that hides them.

    Args:
        setting: How updates are summed.
        fewest: Sites of the smallest round.
        decided_by: The setting that decides on it.

    Raises:
        ConfigError: If there are fewer than three.
    """
    least = setting.needed(1)
    if fewest < least:
        raise ConfigError(
            f"{decided_by} must give every round at least {least} sites under secure_aggregation, got {fewest}: "
            "of a sum of two, each would learn the other's. Raise it."
        )


def rehearse(module: FederatedModule, data: FederatedDataModule) -> None:
    """Makes one training batch of every client, to find out before training whether it goes.

    Batches of one shape need to pass through the network only once.

    Raises:
        ConfigError: If a batch cannot be made or the network cannot take it.
    """
    shapes: set[torch.Size] = set()
    module.eval()
    for site in data.sites:
        try:
            batch = next(iter(data.train_loader(site, seed=0, steps=1)))
            images = batch["image"][:2]
            if images.shape not in shapes:
                with torch.no_grad():
                    module.criterion(module(images), batch["mask"][:2], batch["valid"][:2])
            shapes.add(images.shape)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"{site}: a training batch cannot be used ({reason}). Check transforms and image size."
            ) from error
    module.train()


def check_trainer(arguments: Mapping[str, Any]) -> None:
    """Makes one Trainer as every client will, to find out whether its arguments work.

    Raises:
        ConfigError: If they do not.
    """
    precision = str(arguments.get("precision", "32-true"))
    if precision in ("64", "64-true", "16-true", "bf16-true"):
        raise ConfigError(
            f"trainer.precision must keep float32 parameters, got {precision}. Use 16-mixed, bf16-mixed or 32-true."
        )
    try:
        make_trainer(arguments, [])
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error


def check_trackers(trackers: Sequence[Tracker]) -> None:
    """Checks that what is to record a run can; nobody would train for hours to learn that a package is missing.

    Raises:
        ConfigError: With the first tracker that cannot.
    """
    for tracker in trackers:
        try:
            tracker.check()
        except (ModuleNotFoundError, ValueError) as error:
            raise ConfigError(f"trackers: {error}") from error


def check_rounds(
    rounds: int,
    epochs: int,
    steps: int | None,
    evaluate_every: int,
    threads: int | None,
    cohort: float,
    min_sites: int,
    num_sites: int,
    patience: int | None = None,
    sampling: Sampling = "fixed",
    evaluate_sites: int | None = None,
) -> None:
    """Checks the numbers of a federation.

    Raises:
        ConfigError: With the first number that cannot work.
    """
    for name, value in (("rounds", rounds), ("local_epochs", epochs), ("evaluate_every", evaluate_every)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}. Use 1 or more.")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}. Leave it out for torch's own choice.")
    if patience is not None and patience < 1:
        raise ConfigError(f"patience must be at least 1, got {patience}. Leave it out to train all rounds.")
    if steps is not None and steps < 1:
        raise ConfigError(f"local_steps must be at least 1, got {steps}. Leave it out to train whole epochs.")
    if not 0 < cohort <= 1:
        hint = (
            f" To run {cohort:g} of {num_sites} sites, use {cohort / num_sites:.3g}." if 1 < cohort < num_sites else ""
        )
        raise ConfigError(f"cohort must be in (0, 1], got {cohort:g}.{hint or ' Use 1 for all sites.'}")
    if evaluate_sites is not None and not 1 <= evaluate_sites <= num_sites:
        raise ConfigError(
            f"evaluate_sites must be in [1, {num_sites}], got {evaluate_sites}. Leave it out to evaluate at all sites."
        )
    size = num_sites if sampling == "poisson" else cohort_size(cohort, num_sites)
    if not 1 <= min_sites <= size:
        raise ConfigError(
            f"min_sites must be in [1, {size}], the sites of a round, got {min_sites}. Lower it or raise cohort."
        )


_MAY_CHANGE = ("federation.trackers", "federation.executor", "federation.run_folder", "federation.rounds", "load")


def check_same_config(saved: Mapping[str, Any], now: Mapping[str, Any], done: int, remote: bool = False) -> None:
    """Checks that a run goes on with the config that it was started with; only ``_MAY_CHANGE`` may differ.

    Args:
        saved: The config of the run.
        now: The config that it is to go on with.
        done: Rounds that it has done.
        remote: Whether it runs in a deployment, which goes on with a run unless it is told not to.

    Raises:
        ConfigError: Naming the first settings that differ, or if fewer rounds are asked for than are done.
    """
    changed = differences(saved, now)
    if changed:
        first = ", ".join(changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        anew = "with fedlight deploy run DIR fit --ckpt_path null" if remote else "without ckpt_path"
        raise ConfigError(
            f"a run goes on with the config that it was started with, got another: {first}{more}. "
            f"Take the change back, or start a new run {anew}."
        )
    rounds = now.get("federation", {}).get("rounds", done)
    if rounds < done:
        raise ConfigError(f"rounds must be at least {done}, which this run has done, got {rounds}. Raise it.")


_MAY_CHANGE_FOR_SCORING = (
    "federation.",
    "trainer.",
    "load",
    "data.init_args.root",
    "data.init_args.num_workers",
    "data.init_args.cache_gb",
    "data.init_args.batch_size",
    "model.init_args.window",
    "model.init_args.overlap",
    "seed_everything",
)


def check_scored_config(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that a run is scored on the sites, splits and preparation that it was trained with.

    Raises:
        ConfigError: Naming the first settings that differ: training cases could pass for unseen ones.
    """
    changed = differences(saved, now, _MAY_CHANGE_FOR_SCORING)
    if changed:
        raise ConfigError(
            f"a run is scored on the data that it was trained with, got another config: {', '.join(changed[:3])}. "
            "Take the change back; only the root may lie elsewhere."
        )


def check_exported_config(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that a run's model is exported as what it is: with its own data's preparation, method and protections.

    Raises:
        ConfigError: Naming the first settings that differ: a description or a card would be wrong.
    """
    exempt = ("federation.", *_MAY_CHANGE)
    may_change = (*(name for name in _MAY_CHANGE_FOR_SCORING if name not in exempt), *_MAY_CHANGE)
    changed = differences(saved, now, may_change)
    if changed:
        raise ConfigError(
            f"a run is exported with the config that it was trained with, got another: {', '.join(changed[:3])}. "
            "Take the change back."
        )


def check_whole(module: FederatedModule, plugins: Sequence[ClientPlugin], buffers: str, site: str | None) -> None:
    """Checks that a model which was loaded is a whole one.

    Args:
        module: Holds it.
        plugins: Client plugins of the run.
        buffers: Policy for running statistics.
        site: Whose it is; None for that of all sites.

    Raises:
        ConfigError: If parameters or running statistics in it are nobody's.
    """
    params, kept = parameters_of(module), buffers_of(module)
    if buffers == "recalibrate" and kept:
        raise ConfigError(
            "buffers must be average or local for an export, got recalibrate: this run's statistics are those of the "
            "images that are predicted. Use fedlight predict."
        )
    if site is None and (any(plugin.private(params) for plugin in plugins) or (buffers == "local" and kept)):
        raise ConfigError(
            "site must be that of a model in the run's folder, got nothing: what this run's sites keep of their models "
            "is elsewhere. Only models that all sites share can be exported then."
        )


def differences(
    saved: Mapping[str, Any], now: Mapping[str, Any], may_change: tuple[str, ...] = _MAY_CHANGE
) -> list[str]:
    """Returns one clause for every setting of two configs that differs and must not."""
    before, after = flat(saved), flat(now)
    return [
        f"{name} was {before.get(name)}, is {after.get(name)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) and not name.startswith(may_change)
    ]
