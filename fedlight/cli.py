"""The command line: LightningCLI with a federation where the Trainer stands."""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fedlight import commands
from fedlight.checkpoint import RunFolder
from fedlight.configs import empty_groups, read_config
from fedlight.data import FederatedDataModule, FolderSites, SyntheticSites
from fedlight.deploy.command import deploy
from fedlight.document import show
from fedlight.errors import ConfigError, DamagedFileError, ExportError, say
from fedlight.executors import Flower, InProcess, MultiProcess
from fedlight.federation import Federation
from fedlight.messages import explain, nearest, parameters, unknown_setting
from fedlight.plugins import Aggregator, ClientPlugin
from fedlight.plugins.discovery import discover, registered
from fedlight.processes import end_with_parent
from fedlight.replay import Replay
from fedlight.schedule import Buffered, Deadline, Synchronous
from fedlight.server import RoundFailedError
from fedlight.tasks import FederatedModule, SegmentationTask
from fedlight.tracking import MLflowTracker, TensorBoardTracker, WandbTracker
from fedlight.trainer import OWNED

_TRAINER = {"accelerator": "auto", "devices": 1}


class Parser(LightningArgumentParser):
    """A parser whose errors are one sentence for a person, and that takes no abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises ``ConfigError`` with what the user can do."""
        raise ConfigError(explain(str(ex or message), _settings(self), _classes())) from ex


def _classes() -> dict[str, dict[str, list[str]]]:
    """Classes that a config may name, with their parameters, by the setting that names them."""
    plugins = registered()
    return {
        "aggregator": parameters(info.cls for info in plugins if issubclass(info.cls, Aggregator)),
        "plugins": parameters(info.cls for info in plugins if issubclass(info.cls, ClientPlugin)),
        "trackers": parameters([MLflowTracker, TensorBoardTracker, WandbTracker]),
        "executor": parameters([Flower, InProcess, MultiProcess]),
        "schedule": parameters([Buffered, Deadline, Replay, Synchronous]),
        "data": parameters([FolderSites, SyntheticSites]),
        "model": parameters([SegmentationTask]),
        "optimizer": parameters(Optimizer.__subclasses__()),
        "scheduler": parameters(LRScheduler.__subclasses__()),
    }


def _settings(parser: argparse.ArgumentParser) -> list[str]:
    """Dotted names of everything that can be set, in subcommands too, without single-letter and help options."""
    commands = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if commands:
        return [name for each in commands for command in each.choices.values() for name in _settings(command)]
    names = (action.dest for action in parser._actions if action.dest not in ("help", "config"))
    return [name for name in names if not name.endswith(".help")]


class FederatedCLI(LightningCLI):
    """``fedlight fit | validate | test | predict | export | styles | privacy | audit``: a federation from configs."""

    exit_code = 0

    def __init__(self, args: Sequence[str]) -> None:
        self.command = args[0]
        super().__init__(
            model_class=FederatedModule,
            datamodule_class=FederatedDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Federation,  # type: ignore[arg-type]  # has the methods that the CLI calls
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=list(args),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Names the given command alone (every parser takes 40 ms), and the arguments that the CLI itself fills in."""
        return {self.command: {"model", "datamodule"}}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; the parser itself would take a group that it does not know, as long as there is nothing in it."""
        known = _settings(parser)
        for path in _configs(args):
            for group in empty_groups(read_config(path)):
                if not any(name == group or name.startswith(f"{group}.") for name in known):
                    raise ConfigError(unknown_setting(group, known))
        super().parse_arguments(parser, args)

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything must be in [0, 2**32), got {seed}. Use 0.")
        super()._set_seed()

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the groups of the config: model, data, federation, trainer."""
        parser.add_lightning_class_args(FederatedModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(FederatedDataModule, "data", subclass_mode=True)
        parser.add_class_arguments(
            Federation, "federation", skip={"seed", "trainer", "config", "console"}, instantiate=False
        )
        parser.add_class_arguments(Trainer, "trainer", skip=OWNED, instantiate=False)
        parser.add_argument("--load", type=list[str], default=[], help="Python files with plugins of your own.")
        parser.set_defaults(
            {
                "model": {"class_path": "fedlight.tasks.SegmentationTask"},
                "federation.aggregator": {"class_path": "fedlight_algorithms.fedavg.FedAvg"},
                "trainer.accelerator": "auto",
            }
        )

    def predict(self, **arguments: Any) -> None:
        """Segments images and remembers whether all could be read."""
        federation: Any = self.trainer
        rows = federation.predict(**arguments)
        failed = sum(row["status"] != "ok" for row in rows)
        done = f"{len(rows) - failed} of {len(rows)} images segmented into {arguments['output']}"
        sys.stdout.write(f"{done}; predictions.csv names every one\n")
        if arguments["uncertainty"] and failed < len(rows):
            views = arguments["tta"]
            source = f"the mean over views (tta {views})" if views else "one look at the image (no tta)"
            sys.stdout.write(f"uncertainty: predictive entropy of {source}; 0 is certain, 1 is all classes alike\n")
        self.exit_code = 1 if failed else 0

    def export(self, **arguments: Any) -> None:
        """Writes a model for other programs and says how far it is from the run's own."""
        federation: Any = self.trainer
        for sentence in federation.export(**arguments):
            sys.stdout.write(f"{sentence}\n")

    def styles(self, **arguments: Any) -> None:
        """Draws styles and features and says where they are."""
        federation: Any = self.trainer
        for sentence in federation.styles(**arguments):
            sys.stdout.write(f"{sentence}\n")

    def privacy(self, **arguments: Any) -> None:
        """Prints what would leave a site."""
        federation: Any = self.trainer
        show(federation.privacy(**arguments))

    def audit(self, **arguments: Any) -> None:
        """Prints what a run gives away, and says where the pictures are."""
        federation: Any = self.trainer
        show(federation.audit(**arguments))
        sys.stdout.write(f"\n{arguments['output']}/audit.html has the pictures\n")

    def instantiate_trainer(self, **kwargs: Any) -> Federation:  # type: ignore[override]
        """Builds the federation; every client makes its own Trainer from the same arguments."""
        trainer = {**_TRAINER, **{k: v for k, v in self._get(self.config_init, "trainer").items() if v is not None}}
        return Federation(
            **self._get(self.config_init, "federation"),
            seed=self._get(self.config, "seed_everything"),
            trainer=trainer,
            config=self._plain_config(),
        )

    def _plain_config(self) -> dict[str, Any]:
        """Returns the resolved config without what belongs to this one command."""
        self._dump_config()
        kept = ("load", "seed_everything", "model", "data", "federation", "trainer")
        return {key: self.config_dump[key] for key in kept if key in self.config_dump}


class _Built(FederatedCLI):
    """Builds what a command line describes and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        return


def built(arguments: Sequence[str]) -> tuple[Federation, FederatedModule, FederatedDataModule]:
    """Returns the federation, the task and the data that a command line of ``fit`` describes.

    Raises:
        ConfigError: If it does not describe them.
    """
    _quiet()
    _discover(_files_to_load(arguments))
    cli = _Built(["--load+" if argument == "--load" else argument for argument in arguments])
    federation: Any = cli.trainer
    return federation, cli.model, cli.datamodule


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns the exit code: 0, 1 for a failed run, 2 for a mistake, 130 or 143 if interrupted."""
    _quiet()
    kept = "; what was done is kept: go on with --ckpt_path last" if arguments[0] == "fit" else ""
    try:
        with _terminable():
            return _run(arguments)
    except ConfigError as error:
        return say(error, 2)
    except (RoundFailedError, DamagedFileError, ExportError) as error:
        return say(error, 1)
    except OSError as error:
        about = f" ({error.filename})" if error.filename else ""
        return say(f"{error.strerror or error}{about}{kept}", 1)
    except _Terminated:
        return say(f"asked to end (SIGTERM){kept}", 143)
    except KeyboardInterrupt:
        return say(f"interrupted{kept}", 130)


def _run(arguments: Sequence[str]) -> int:
    if arguments[0] == "script":
        return _script(arguments[1:])
    if arguments[0] == "deploy":
        return deploy(arguments[1:], built)
    if arguments[0] in commands.COMMANDS:
        return commands.COMMANDS[arguments[0]](list(arguments[1:]))
    _known(arguments[0])
    arguments = _with_run(arguments)
    _discover(_files_to_load(arguments))
    arguments = _with_flags(arguments)
    return FederatedCLI(["--load+" if argument == "--load" else argument for argument in arguments]).exit_code


class _Terminated(KeyboardInterrupt):
    """The process was asked to end, which ends a command as Ctrl-C does."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end a block with an exception, so that records are closed and something is said."""

    def end(number: int, frame: object) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _script(arguments: Sequence[str]) -> int:
    """Runs the fedlight commands of a file in one process, line by line, until one fails.

    The process ends with the one that started it and gave its number: what works for a benchmark must not outlive it.
    """
    if len(arguments) != 2 or not arguments[1].isdigit():
        raise ConfigError(
            "script must name a file with a fedlight command a line and the process that waits for it, for instance: "
            "fedlight script FILE $$."
        )
    end_with_parent(lambda: os._exit(1), parent=int(arguments[1]))
    for line in Path(arguments[0]).read_text().splitlines():
        code = run(shlex.split(line)[1:])
        if code:
            return code
    return 0


def _discover(files: Sequence[str]) -> None:
    try:
        discover(files)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _known(command: str) -> None:
    every = [*commands.FEDERATED, *commands.COMMANDS, "script", "deploy"]
    if command not in every:
        raise ConfigError(f"{command} is not a command. {nearest(command, every)}")


def _with_run(arguments: Sequence[str]) -> list[str]:
    """Replaces ``--run RUN`` by the run's own config and the run as checkpoint."""
    arguments = [part for argument in arguments for part in _split_option(argument, "--run")]
    if "--run" not in arguments:
        return arguments
    at = arguments.index("--run")
    if at + 1 == len(arguments):
        raise ConfigError("--run must name the folder of a run, got nothing. Add the folder.")
    folder = RunFolder(Path(arguments[at + 1]))
    try:
        folder.config()
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{folder.path}/config.yaml is damaged. Bring it back to score or go on.") from error
    rest = arguments[1:at] + arguments[at + 2 :]
    return [arguments[0], "-c", str(folder.path / "config.yaml"), "--ckpt_path", str(folder.path), *rest]


_FLAGS = ("--probabilities", "--uncertainty", "--normalise_style", "--recalibrate", "--profile")


def _with_flags(arguments: Sequence[str]) -> list[str]:
    """Lets ``--probabilities`` stand for ``--probabilities true``, and others alike."""
    following = [*arguments[1:], "--"]
    pairs = zip(arguments, following, strict=True)
    return [
        f"{argument}=true" if argument in _FLAGS and after.startswith("-") else argument for argument, after in pairs
    ]


def _split_option(argument: str, name: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith(f"{name}=") else [argument]


def _files_to_load(arguments: Sequence[str]) -> list[str]:
    """Reads every config once for its syntax and collects the plugin files that are named: they are needed to parse."""
    files = [file for path in _configs(arguments) for file in read_config(path).get("load") or []]
    arguments = [part for argument in arguments for part in _split_option(argument, "--load")]
    for option, value in itertools.pairwise(arguments):
        if option in ("--load", "--load+"):
            files += value.strip("[]").split(",") if value.startswith("[") else [value]
    return [file.strip() for file in files]


def _configs(arguments: Sequence[str]) -> list[Path]:
    """Returns the config files that are named."""
    arguments = [part for argument in arguments for part in _split_option(argument, "--config")]
    return [Path(value) for option, value in itertools.pairwise(arguments) if option in ("-c", "--config")]


def _quiet() -> None:
    """Leaves the terminal to the federation, and lets nothing call home."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # the arguments are those of the command line, but for --run
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    for name in ("lightning.pytorch", "lightning.fabric"):  # seed_everything and the like
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
