"""Everything that ever crosses between the server and a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:  # whoever only reads records of rounds needs no torch
    from torch import Tensor

    from fedlight.state import State

Shared: TypeAlias = "Mapping[str, Mapping[str, Tensor]]"
"""What plugins share: by plugin instance id, then by name."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How one model does on one institution's cases: means always, per-case scores only if the site allows it."""

    site: str
    round: int
    num_cases: int
    metrics: Mapping[str, float]  # "dice", "iou", ...: mean over cases; "dice/<class>": of one class
    cases: tuple[Mapping[str, Any], ...] = ()  # one row a case: "case", then metrics


@dataclass(frozen=True, slots=True)
class RoundContext:
    """What everybody may know about a round.

    Attributes:
        round: Number of the round, from 1.
        rounds: Number of rounds that the run is planned for.
        seed: The run's seed.
        sites: All sites of the federation, in their fixed order.
        cohort: The sites that take part in this round, in the same order.
        num_samples: Training cases of every site.
        weights: What every site counts for in an average: its cases, or 1 under uniform weighting.
        evaluations: The latest evaluation of every site on its validation cases; empty before the first.
        rate: Probability with which a site takes part in a round whatever the others do (Poisson sampling); 1 where
            cohorts are not drawn like that.
    """

    round: int
    rounds: int
    seed: int
    sites: tuple[str, ...]
    cohort: tuple[str, ...]
    num_samples: Mapping[str, int]
    weights: Mapping[str, float]
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    rate: float = 1.0

    @property
    def progress(self) -> float:
        """Share of the planned rounds that are done, in [0, 1): 0 in the first round."""
        return (self.round - 1) / max(self.rounds, 1)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Server to site: the model of the round and what plugins want every site to know.

    ``model`` says how it comes: "full" in ``params``; "delta", written by codecs in ``payload``, what changed since the
    version before; "kept", when the site has this version already; or "other", in ``params``, a model that is only
    scored and not gone on from.
    """

    context: RoundContext
    params: State  # trainable and shared: all that an aggregator may touch
    buffers: State  # running statistics, by policy
    shared: Shared = field(default_factory=lambda: _NOTHING)
    payload: bytes = b""
    version: int = 0
    model: Literal["full", "delta", "kept", "other"] = "full"

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.context.round

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of this message: of "parameters", "buffers", and "shared/<plugin>"."""
        return _bytes_by_part(self.params, self.payload, self.buffers, self.shared)

    @property
    def num_bytes(self) -> int:
        """Bytes of the model and the tensors in this message."""
        return sum(self.bytes_by_part.values())


@dataclass(frozen=True, slots=True)
class Update:
    """Site to server: what a site learned in a round; nothing else leaves a site while it trains.

    Codecs write the parameters into ``payload``; ``params`` is empty until the server has read it. Under secure
    aggregation there are no tensors at all, and ``payload`` has the site's keys.
    """

    site: str
    round: int
    num_samples: int
    params: State
    buffers: State
    metrics: Mapping[str, float] = field(default_factory=dict)  # "train_loss", "steps", "seconds"
    shared: Shared = field(default_factory=lambda: _NOTHING)
    payload: bytes = b""

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of this message: of "parameters", "buffers", and "shared/<plugin>"."""
        return _bytes_by_part(self.params, self.payload, self.buffers, self.shared)

    @property
    def num_bytes(self) -> int:
        """Bytes of the model and the tensors in this message."""
        return sum(self.bytes_by_part.values())


@dataclass(frozen=True, slots=True)
class Exchange:
    """A step of secure aggregation, to a site or from it, after all of the round have trained.

    Attributes:
        site: Whom it is for, or from.
        round: Number of the round.
        content: Bytes by kind ("keys", "shares", "vector", ...), then by the site that they concern.
    """

    site: str
    round: int
    content: Mapping[str, Mapping[str, bytes]]

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of this message: of the "masked update", or of "secure aggregation" for all else."""
        sizes = {kind: sum(map(len, parts.values())) for kind, parts in self.content.items()}
        part = "masked update" if "vector" in self.content else "secure aggregation"
        return {part: sum(sizes.values())}

    @property
    def num_bytes(self) -> int:
        """Bytes of what is in this message."""
        return sum(self.bytes_by_part.values())


Sent = Broadcast | Exchange
"""What sites are sent."""


KINDS = ("raised", "refused", "lost", "late", "unneeded", "outdated", "spent")
"""Of failures of sites."""


@dataclass(frozen=True, slots=True)
class SiteFailure:
    """A site that gave no usable answer.

    Attributes:
        phase: "open", "fit", "evaluate", or a step of secure aggregation.
        kind: "raised" (an exception at the site), "refused" (an answer that the server does not accept), "lost"
            (the process or the connection ended), "late" (the deadline passed), "unneeded" (of more sites than are
            needed, others were first), "outdated" (it lacks the version that its message goes on from, and is then sent
            the whole model) or "spent" (its privacy budget is).
        reason: One sentence without the site's name.
    """

    site: str
    round: int
    phase: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.site}, round {self.round}, {self.phase}: {self.reason}"


def _bytes_by_part(params: State, payload: bytes, buffers: State, shared: Shared) -> dict[str, int]:
    from torch import Tensor

    from fedlight.state import num_bytes

    model = {"parameters": num_bytes(params) + len(payload), "buffers": num_bytes(buffers)}
    tensors = {
        name: {key: value for key, value in part.items() if isinstance(value, Tensor)}  # a plugin may share anything
        for name, part in shared.items()
    }
    parts = model | {f"shared/{name}": num_bytes(part) for name, part in tensors.items()}
    return {name: size for name, size in parts.items() if size}
