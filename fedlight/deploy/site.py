"""A site at work: answers the server's messages with what the site itself allows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fedlight.agreement import agreement, disagreement
from fedlight.checkpoint import SiteStore
from fedlight.data.federated import FederatedDataModule
from fedlight.deploy.node import RUN, Node
from fedlight.deploy.relay import state
from fedlight.executors.executor import STEPS, ClientFactory, Phase, Reply
from fedlight.executors.workplace import StoppedError, Workplace, torch_threads
from fedlight.federation import Federation
from fedlight.preparation import build, check_private, prototypes, rehearse
from fedlight.serialization import write_bytes
from fedlight.state import buffers_of, parameters_of
from fedlight.tasks.federated_module import FederatedModule
from fedlight.unseen import score_unseen
from fedlight.update import Broadcast, Exchange, Sent, SiteFailure
from fedlight.wire import Expected, WireError, decode, encode

Built = Callable[[Sequence[str]], tuple[Federation, FederatedModule, FederatedDataModule]]
"""Builds what a command line describes and runs nothing."""

Answer = tuple[dict[str, Any], bytes]

_PHASES: Sequence[Phase] = ("fit", "evaluate", "validate", "test", *STEPS)


class Site:
    """The site of one node; made from the config that it holds itself, which the server's has to agree with.

    Args:
        node: The site's own settings.
        built: Builds what a config describes.

    Attributes:
        stopping: Says whether the site shall end what it trains.
    """

    def __init__(self, node: Node, built: Built) -> None:
        self.node = node
        self.stopping: Callable[[], bool] = lambda: False
        self._federation, self._module, self._data = built(_arguments(node))
        self._data.stay_at(node.site, Path(node.data) if node.data else None)
        self._data.prepare()
        federation = self._federation
        aggregator, plugins = prototypes(federation.aggregator, federation.plugins)
        build(self._module, self._data, plugins, federation.seed)
        check_private(federation.local.example_privacy, self._module, aggregator, plugins, federation.local.trainer)
        rehearse(self._module, self._data)
        self._plugins = prototypes(federation.aggregator, federation.plugins)[1]
        self._agreement = agreement(federation.config, self._plugins)
        self._local = replace(federation.local, share_cases=node.share_cases)
        self._expected = Expected(parameters_of(self._module), buffers_of(self._module))
        self._place: tuple[tuple[str, bool], Workplace] | None = None
        self._threads = ExitStack()
        self._threads.enter_context(torch_threads(self._local.threads))

    def close(self) -> None:
        """Gives back what the process shares."""
        self._threads.close()

    def disagrees(self, fields: Mapping[str, Any]) -> str | None:
        """Says in what this site and the server differ, if in anything."""
        try:
            return disagreement(self._agreement, json.loads(fields["agreement"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            return "the server does not say what was agreed"

    @property
    def num_samples(self) -> int:
        """The number of cases to train with; 0 at an institution that takes no part."""
        return self._data.num_samples(self.node.site) if self.node.site in self._data.sites else 0

    def hello(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Says how many cases there are to train with, and what stands in the way."""
        return {"num_samples": self.num_samples, "problem": self.disagrees(fields) or "", "versions": versions()}

    def work(self, fields: Mapping[str, Any], block: bytes) -> Reply:
        """Does the work of one phase."""
        phase, site = str(fields["phase"]), self.node.site
        failure = SiteFailure(site, 0, phase, "refused", "")
        reason = self.disagrees(fields)
        if reason is not None:
            return replace(failure, reason=reason)
        try:
            message = decode(block, replace(self._expected, limit=int(fields["largest"]) << 20))
        except WireError as error:
            return replace(failure, reason=f"message refused: {error}")
        if not isinstance(message, Exchange if phase in STEPS else Broadcast):
            return replace(failure, reason="message refused: it is of another kind than its phase")
        if phase == "unseen" and isinstance(message, Broadcast):
            return self._score_unseen(message)
        known = next((each for each in _PHASES if each == phase), None)
        if known is None:
            return replace(failure, reason=f"message refused: there is no phase {phase[:20]}")
        return self._phase(known, message, fields)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _phase(self, phase: Phase, message: Sent, fields: Mapping[str, Any]) -> Reply:
        run, base, scoring = str(fields["run"]), int(fields["base"]), bool(fields["scoring"])
        factory = self._factory(run, scoring)
        self._select(factory.store(self.node.site), int(fields["selected"]))
        if phase == "fit":
            factory.store(self.node.site).rewind(base)
        if self._place is None or self._place[0] != (run, scoring):
            self._place = (run, scoring), Workplace(factory, {}, self._go_on)
        return self._place[1].work(phase, self.node.site, message, finished=base)

    def _go_on(self, *progress: Any) -> None:
        if self.stopping():
            raise StoppedError("it was told to end its work")

    def _factory(self, run: str, scoring: bool) -> ClientFactory:
        if not run.isalnum():  # it names a folder
            raise ValueError("the name of a run has other characters than letters and numbers")
        folder = state(Path(self.node.folder)) / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        return ClientFactory(self._module, self._data, self._plugins, self._local, folder, scoring)

    def _select(self, store: SiteStore, round: int) -> None:
        """Keeps the state of the selected round apart, once."""
        marker = store.folder / "selected"
        if round and not (marker.is_file() and marker.read_text() == str(round)) and store.folder.is_dir():
            store.select(round)
            write_bytes(marker, str(round).encode())

    def _score_unseen(self, broadcast: Broadcast) -> Reply:
        factory = self._factory("unseen", scoring=False)
        return tuple(each for _, each in score_unseen(factory, broadcast, self.node.site, private=False))


def answer(site: Callable[[], Site], node: Node, fields: Mapping[str, Any], block: bytes) -> Answer:
    """Answers a message.

    Args:
        site: Makes the site, or returns the one that is there.
        node: The site's own settings.
        fields: What the message says.
        block: What it holds.

    Returns:
        Fields and bytes of the answer. What errors say stays at the site, unless the site shares its cases.
    """
    phase = str(fields.get("phase"))
    try:
        if phase == "hello":
            return site().hello(fields), b""
        reply = site().work(fields, block)
    except Exception as error:
        _note(node, phase, error)
        reply = SiteFailure(node.site, 0, phase, "raised", " ".join(f"{type(error).__name__}: {error}".split()))
    if isinstance(reply, SiteFailure):
        reply = discreet(reply, node)
        if phase == "hello":
            return {"num_samples": 0, "problem": reply.reason, "versions": versions()}, b""
    return {}, encode(reply)


def discreet(failure: SiteFailure, node: Node) -> SiteFailure:
    """Returns a failure without what an exception said: it may name files and cases."""
    if failure.kind != "raised" or node.share_cases:
        return failure
    kind = failure.reason.partition(":")[0]
    return replace(failure, reason=f"{kind if kind.isidentifier() else 'an error'}; errors.log at the site says more")


def versions() -> str:
    """Says what this process computes with."""
    known = [f"python {sys.version.split()[0]}", f"torch {torch.__version__}"]
    for name in ("fedlight", "lightning", "flwr"):
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            known.append(f"{name} absent")
    return ", ".join(known)


def _arguments(node: Node) -> list[str]:
    """Returns the command line of the agreed config with what is the site's own."""
    arguments = ["fit", "-c", str(Path(node.folder) / RUN), "--trainer.accelerator", node.accelerator]
    arguments += ["--data.num_workers", str(node.num_workers)] if node.num_workers >= 0 else []
    return [*arguments, "--data.splits", node.splits] if node.splits else arguments


def _note(node: Node, phase: str, error: Exception) -> None:
    import traceback

    with (state(Path(node.folder)) / "errors.log").open("a") as file:
        file.write(f"{node.site}, {phase}\n{''.join(traceback.format_exception(error))}\n")
