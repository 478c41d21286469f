"""A client's Trainer: one device, and silent about what concerns no client."""

from __future__ import annotations

import copy
import logging
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, Trainer

from fedlight.stopwatch import trainer_sections

QUIET: Mapping[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 1.0,
    "log_every_n_steps": 1,
}
"""A client's Trainer writes and prints nothing: the federation does."""

OWNED = {
    "logger", "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "default_root_dir", "num_nodes",
    "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "barebones",
    "check_val_every_n_epoch", "val_check_interval", "reload_dataloaders_every_n_epochs", "use_distributed_sampler",
    "log_every_n_steps", "fast_dev_run", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "devices",
    "enable_autolog_hparams", "model_registry",
}  # fmt: skip
"""Arguments that the federation decides for all clients, and what a client must not do."""


def make_trainer(arguments: Mapping[str, Any], callbacks: Sequence[Callback]) -> Trainer:
    """Builds a client's own Trainer.

    Args:
        arguments: Of ``lightning.pytorch.Trainer``; callbacks among them are copied, so no two clients share one.
        callbacks: Further callbacks, used as they are.
    """
    own = copy.deepcopy(dict(arguments))
    given = own.pop("callbacks", None) or []
    with quiet_lightning():
        told = {} if (sections := trainer_sections()) is None else {"profiler": sections}
        both = [*(given if isinstance(given, list) else [given]), *callbacks]
        return Trainer(**{**QUIET, **own, **told}, callbacks=both)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences Lightning's hints ("you may want more workers", "GPU available") in a block; warnings stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            # Lightning 2.6 asks torch for the type of a tree in a way that torch 2.15 has deprecated
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets an interrupt end a block as what it is: a Trainer makes exit code 1 of it and ignores the next Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise error.__context__ from None
