"""The contract of everything that records a run."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedlight.update import Evaluation, SiteFailure

Status = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class SiteRound:
    """What one site did in a round.

    Attributes:
        metrics: What the site's training reported: "train_loss", "steps", "seconds", and what plugins logged.
        bytes_down: Bytes of the model and the tensors that the site was sent.
        bytes_up: Bytes of the model and the tensors that it sent.
        parts: Both by part: "bytes_down/parameters", "bytes_up/shared/<plugin>", ...
    """

    site: str
    num_samples: int
    metrics: Mapping[str, float]
    bytes_down: int
    bytes_up: int
    parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """Everything there is to record about a round.

    Attributes:
        seconds: Wall time of the phases: "fit", "aggregate", "evaluate", "round".
        evaluations: One an institution, in site order, of the new global model on validation cases; empty in rounds
            without evaluation.
        selected: Whether this round's model is the best so far on the source sites' validation cases.
        bytes_evaluate: Bytes of what sites were sent to evaluate the model.
        metrics: What the aggregator says of the rounds until this one: "epsilon", ...
    """

    round: int
    rounds: int
    cohort: tuple[str, ...]
    sites: tuple[SiteRound, ...]
    evaluations: tuple[Evaluation, ...] = ()
    failures: tuple[SiteFailure, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    selected: bool = False
    bytes_evaluate: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker knows when a run starts.

    Attributes:
        name: Name of the run, for a person.
        folder: The run folder.
        config: The resolved config, plain values only.
        sites: Clients, in their order.
        held_out: The institutions that take no part.
        classes: Names of the classes, background first.
        rounds: Planned rounds.
        method: The aggregator and the plugins, by name.
        start_round: Rounds that are already done when a run is resumed, else 0.
        last: Which run "last" is, in words; empty where nobody asked for it, or only one can be meant.
        local_steps: Optimizer steps of every site in a round, where known.
        num_parameters: Trainable parameters of the network.
        num_samples: Training cases of every site.
        scoring: Which model is scored if a trained run is opened only for that; ``start_round`` is its round.
        privacy: Whose privacy is protected and how far, in words; empty if nobody's is.
        distance_unit: Unit of the surface distances: "mm" where the data give a pixel spacing, else "px".
        clock: How it goes by the real clock, in words; empty where it does not, and repeats.
        beyond: What sites share that is more than statistics of whole sites, clause by clause.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    sites: tuple[str, ...]
    held_out: tuple[str, ...]
    classes: tuple[str, ...]
    rounds: int
    start_round: int = 0
    local_steps: Mapping[str, int] = field(default_factory=dict)
    num_parameters: int = 0
    method: str = ""
    num_samples: Mapping[str, int] = field(default_factory=dict)
    scoring: Literal["selected", "last"] | None = None
    distance_unit: Literal["mm", "px"] = "px"
    beyond: tuple[str, ...] = ()
    privacy: str = ""
    clock: str = ""
    last: str = ""


class Tracker(ABC):
    """Records a run; only the server process has trackers.

    A tracker never stops a run that has begun: the federation turns what a tracker raises into one warning and goes on
    without it, except for the run folder's own files.

    Attributes:
        overlays: Whether this tracker wants ``on_overlays``; predictions are made for it only then.
    """

    overlays: bool = False

    def check(self) -> None:
        """Looks, before anything is trained, whether this tracker can record at all.

        Raises:
            ModuleNotFoundError: If a package is missing.
            ValueError: If its arguments cannot work.
        """

    def start(self, run: RunInfo) -> None:
        """Opens a run, or opens it again when it is resumed (``run.start_round`` > 0)."""

    def on_progress(self, site: str, round: int, step: int, steps: int, loss: float) -> None:
        """A site is at work; called a few times a second at the most."""

    def on_round(self, record: RoundRecord) -> None:
        """A round is complete."""

    def on_test(
        self, split: str, model: str, evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """A model was scored.

        Args:
            split: "held-out" (the institution that took no part), "test" or "val" (of the sites that took part).
            model: Which model: "global", the name of the site whose own model it is, or "mean" or "ensemble" of the
                sites' models; what helped it at test time stands behind it in brackets: "global [tta flips]".
            evaluations: One an institution.
            rows: One row of plain values a case: "site", "case", then metrics.
        """

    def on_overlays(self, site: str, round: int, images: Any, masks: Any, predictions: Any) -> None:
        """Examples to look at; patients' pixels, so called only when the user asked for it.

        Args:
            site: The institution.
            round: The round whose model made the predictions.
            images: (N, C, H, W), float32.
            masks: (N, H, W), int64.
            predictions: (N, H, W), int64.
        """

    def finish(self, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path] = ()) -> None:
        """Closes the run; ``summary`` holds final metrics, ``artifacts`` files such as the global checkpoint."""
