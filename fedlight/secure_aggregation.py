"""Secure aggregation in a run: what a site adds to the sum, its part in the exchange, what the sum says.

A site trains first and agrees with the others afterwards, so who fails or is late in training has agreed on nothing
yet. Its vector has a section for the model and one for every plugin whose statistics are summed; a section begins with
what the site counts for, so that the sum has the weights in it:

    [ w_k, w_k (params_k - params_t), w_k buffers_k,  v_k, v_k statistics_k, ... ]      v_k = 0: the site shares none

The mean over the sites is a section divided by its first number. Variances and their kin go as second moments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fedlight import state
from fedlight.buffers import of_union, summable
from fedlight.plugins import ClientPlugin
from fedlight.plugins.client_plugin import Statistics
from fedlight.privacy.fixed_point import FRACTION, Ring, SecureSumError, from_ring, to_ring
from fedlight.state import State
from fedlight.update import Broadcast, Exchange, RoundContext, Update

if TYPE_CHECKING:
    from fedlight.privacy.secure_sum import PublicKeys

FEWEST = 3
"""Sites in a sum: of two, each would find the other's update by taking away its own."""

MODEL = ""
"""The section of parameters and buffers; the others have the ids of plugins."""

MEAN = "all sites of the round"
"""The site that the mean is from, for aggregators and plugins."""

_DTYPES = {str(dtype): dtype for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
_LARGEST = 2**28
_KEY = 32


class SecureAggregation:
    """The server learns the sum of what the sites of a round send, and of no single site what it sends.

    Args:
        threshold: Share of a round's cohort that must remain to the end, above 0.5 and at most 1; three sites in any
            case. With fewer the round is given up and nothing is revealed.
        fraction: Binary digits behind the point, 8 to 40. Numbers are rounded to steps of 2^-fraction; their sum over
            the sites, weights included, must stay below 2^(62 - fraction): 1.1e9 with 32.
    """

    def __init__(self, threshold: float = 0.67, fraction: int = FRACTION) -> None:
        self.threshold = threshold
        self.fraction = fraction

    def validate(self) -> None:
        """Checks the arguments.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """
        if not 0.5 < self.threshold <= 1:
            raise ValueError(f"threshold must be above 0.5 and at most 1, got {self.threshold:g}. Use 0.67.")
        if not 8 <= self.fraction <= 40:
            raise ValueError(f"fraction must be from 8 to 40 binary digits, got {self.fraction}. Use 32.")

    def __str__(self) -> str:
        return (
            f"the server learns sums over at least {FEWEST} sites and no site's own; what is listed below goes into a "
            "sum, in which every number is written in 8 bytes"
        )

    def needed(self, cohort: int) -> int:
        """Returns how many sites of a cohort must remain.

        >>> [SecureAggregation(0.67).needed(cohort) for cohort in (3, 4, 5, 100)]
        [3, 3, 4, 67]
        """
        return max(FEWEST, math.ceil(self.threshold * cohort - 1e-9))


# --- what is added up ------------------------------------------------------------------------------------------------

Summed = Mapping[str, tuple[State, float]]
"""By section: tensors to be averaged, and what they count for."""

Layout = Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
"""By section and name: dtype and shape."""


def summands(update: Update, broadcast: Broadcast, plugins: Sequence[ClientPlugin]) -> Summed:
    """Returns what a site adds to the sum, section by section."""
    weight = broadcast.context.weights[update.site]
    parts: dict[str, tuple[State, float]] = {MODEL: (_model(update, broadcast), weight)}
    for plugin in plugins:
        shared = update.shared.get(plugin.instance_id, {})
        if plugin.linear and shared:
            summed, counts = plugin.summand(shared, weight, broadcast.shared.get(plugin.instance_id, {}))
            parts[plugin.instance_id] = dict(summed), counts
    return parts


def mean_update(
    totals: Summed, broadcast: Broadcast, plugins: Sequence[ClientPlugin], layout: Layout, num_samples: int
) -> Update:
    """Returns the update of a site that stands for all: what they changed on average.

    Args:
        totals: By section, the means and the sums of weights.
        broadcast: What the sites were sent, with the model in it.
        plugins: The server's own.
        layout: Of the statistics, as the sites said.
        num_samples: Training cases of the sites.
    """
    model, shared = totals[MODEL][0], {}
    params = {
        name: (value.double() + model[f"params/{name}"]).to(value.dtype) for name, value in broadcast.params.items()
    }
    buffers = {name.removeprefix("buffers/"): value for name, value in model.items() if name.startswith("buffers/")}
    for plugin in plugins:
        mean, total = totals.get(plugin.instance_id, ({}, 0.0))
        if total > 0:
            found = plugin.of_mean(mean, total, broadcast.shared.get(plugin.instance_id, {}))
            like = layout[plugin.instance_id]
            shared[plugin.instance_id] = {name: value.to(_DTYPES[like[name][0]]) for name, value in found.items()}
    restored = _rounded(of_union(buffers, _widened(broadcast.buffers)), broadcast.buffers)
    return Update(MEAN, broadcast.context.round, num_samples, params, restored, {}, shared)


def _model(update: Update, broadcast: Broadcast) -> State:
    if wrong := state.fault(update.params, broadcast.params) or (
        update.buffers and state.fault(update.buffers, broadcast.buffers)
    ):
        raise SecureSumError(wrong)
    moved = {name: value.double() - broadcast.params[name].double() for name, value in update.params.items()}
    buffers = summable(update.buffers, broadcast.buffers)
    return {
        **{f"params/{name}": value for name, value in moved.items()},
        **{f"buffers/{name}": value.double() for name, value in buffers.items()},
    }


def _widened(buffers: State) -> State:
    return {name: value.double() for name, value in buffers.items()}


def _rounded(buffers: State, like: State) -> State:
    """Returns buffers in the dtypes of others; counters are rounded: of a sum there is a mean and no largest value."""
    whole = {name for name, value in like.items() if not value.is_floating_point()}
    return {name: (value.round() if name in whole else value).to(like[name].dtype) for name, value in buffers.items()}


def layout_of(parts: Mapping[str, Statistics]) -> Layout:
    """Describes tensors by section and name, in the order in which they are laid end to end."""
    return {
        section: {name: (str(part[name].dtype), tuple(part[name].shape)) for name in sorted(part)}
        for section, part in sorted(parts.items())
    }


def layout_of_model(broadcast: Broadcast, buffers: bool) -> Layout:
    """Describes the section of the model, which both ends know; ``buffers``: whether sites send them."""
    sent = broadcast.buffers if buffers else {}
    names = {
        **{f"params/{name}": v for name, v in broadcast.params.items()},
        **{f"buffers/{n}": v for n, v in sent.items()},
    }
    return layout_of({MODEL: names})


def size_of(layout: Layout) -> int:
    """Counts the numbers of a vector."""
    return sum(1 + _size(part) for part in layout.values())


def joined(rings: Mapping[str, Ring], layout: Layout) -> Ring:
    """Lays a site's sections end to end, zeros where it has none."""
    missing = {name: np.zeros(1 + _size(part), np.uint64) for name, part in layout.items() if name not in rings}
    return np.concatenate([(missing if name in missing else rings)[name] for name in sorted(layout)])


def ring_of(part: State, weight: float, sites: int, fraction: int) -> Ring:
    """Returns a section: what a site counts for, then that times each of its tensors, in the order of their names."""
    values = [weight * part[name].double().flatten().cpu() for name in sorted(part)]
    return to_ring(torch.cat([torch.tensor([weight], dtype=torch.float64), *values]), sites, fraction)


def means_of(total: Ring, layout: Layout, fraction: int) -> dict[str, tuple[State, float]]:
    """Takes a sum apart: by section, weighted means and the sum of weights; a section that nobody has is left out."""
    values, found, at = from_ring(total, fraction), {}, 0
    for section, part in sorted(layout.items()):
        size = _size(part)
        weight, numbers = float(values[at]), values[at + 1 : at + 1 + size]
        at += 1 + size
        if weight > 0:
            found[section] = dict(_tensors(numbers / weight, part)), weight
    return found


def _tensors(numbers: Tensor, part: Mapping[str, tuple[str, tuple[int, ...]]]) -> Iterator[tuple[str, Tensor]]:
    at = 0
    for name, (_, shape) in sorted(part.items()):
        size = math.prod(shape)
        yield name, numbers[at : at + size].reshape(shape)
        at += size


def _size(part: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    return sum(math.prod(shape) for _, shape in part.values())


# --- messages ---------------------------------------------------------------------------------------------------------


def written(layout: Layout) -> bytes:
    """Writes a layout as JSON."""
    return json.dumps(layout, sort_keys=True, separators=(",", ":")).encode()


def read_layout(data: bytes) -> Layout:
    """Reads what ``written`` wrote; not trusted.

    Raises:
        SecureSumError: If it is no layout.
    """
    try:
        plain: Any = json.loads(data)
        layout = {
            section: {name: (dtype, tuple(shape)) for name, (dtype, shape) in part.items()}
            for section, part in plain.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SecureSumError("what is shared must be described by dtypes and shapes, got something else") from error
    for dtype, shape in (each for part in layout.values() for each in part.values()):
        if type(dtype) is not str or dtype not in _DTYPES:
            raise SecureSumError("statistics must be floating-point tensors, got something else")
        if not all(type(side) is int and 0 <= side <= _LARGEST for side in shape):
            raise SecureSumError(f"statistics must have sides of 0 to {_LARGEST}, got others")
    if size_of(layout) > _LARGEST:
        raise SecureSumError(f"statistics must have at most {_LARGEST} numbers, got {size_of(layout)}")
    return layout


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a site says after training: its keys, and what its plugins share, by dtype and shape alone."""

    keys: PublicKeys
    layout: Layout

    def written(self) -> bytes:
        """Writes it for ``Update.payload``."""
        return self.keys.mask + self.keys.share + written(self.layout)

    @classmethod
    def read(cls, data: bytes) -> Announcement:
        """Reads what ``written`` wrote; not trusted.

        Raises:
            SecureSumError: If it is something else.
        """
        return cls(keys_of(data[: 2 * _KEY]), read_layout(data[2 * _KEY :]))


def keys_of(data: bytes) -> PublicKeys:
    """Reads two public keys.

    Raises:
        SecureSumError: If they have another length.
    """
    from fedlight.privacy.secure_sum import PublicKeys

    if len(data) != 2 * _KEY:
        raise SecureSumError(f"two public keys must have {2 * _KEY} bytes, got {len(data)}")
    return PublicKeys(data[:_KEY], data[_KEY:])


# --- the site's part -------------------------------------------------------------------------------------------------


class Session:
    """A site's part in the secure sum of one round. In memory only: a site that restarts has dropped out.

    Args:
        setting: As all sites have it.
        broadcast: What the site was sent, with the model in it.
        update: What it has trained; it stays here.
        plugins: The site's own.

    Raises:
        SecureSumError: If the update must not be added up: it is not finite, of another shape, or out of range.
    """

    def __init__(
        self, setting: SecureAggregation, broadcast: Broadcast, update: Update, plugins: Sequence[ClientPlugin]
    ) -> None:
        from fedlight.privacy.secure_sum import Member

        context = broadcast.context
        if (weight := context.weights[update.site]) not in (1, update.num_samples):
            # others that hardly count would leave this site's update in the sum as it is
            raise SecureSumError(f"a site must count 1 or its training cases, {update.num_samples}, got {weight:g}")
        self._cohort = frozenset(context.cohort)
        sites = len(self._cohort)
        self.site, self.round = update.site, context.round
        self.sent = False  # whether the masked vector was handed over, so that this round of the site counts
        self._member = Member(update.site, setting.needed(sites), context.round)
        parts = summands(update, broadcast, plugins)
        self._rings = {section: ring_of(part, each, sites, setting.fraction) for section, (part, each) in parts.items()}
        shared = {section: update.shared[section] for section in parts if section != MODEL}
        layout = read_layout(written(layout_of(shared)))  # refuses what cannot be summed
        self._layout = {**layout_of({MODEL: parts[MODEL][0]}), **layout}
        announcement = Announcement(self._member.public_keys, layout)
        self.announcement = replace(update, params={}, buffers={}, shared={}, payload=announcement.written())

    def answer(self, step: str, message: Exchange) -> Exchange:
        """Answers the server in one of the steps "shares", "masked" and "reveal".

        Raises:
            SecureSumError: If the step must not be taken.
        """
        if (message.site, message.round) != (self.site, self.round):
            raise SecureSumError(f"it takes no part in the sum of round {message.round}")
        content = {"shares": self._share, "masked": self._mask, "reveal": self._reveal}[step](message.content)
        return Exchange(self.site, self.round, content)

    def _share(self, content: Mapping[str, Mapping[str, bytes]]) -> dict[str, Mapping[str, bytes]]:
        keys = {name: keys_of(data) for name, data in content["keys"].items()}
        if strangers := keys.keys() - self._cohort:
            raise SecureSumError(f"members must be of the round's cohort, got {sorted(strangers)[0]}")
        agreed = read_layout(content["layout"][MODEL])
        if MODEL in agreed or any(agreed.get(name) != self._layout[name] for name in self._rings if name != MODEL):
            raise SecureSumError("what is shared must have the same dtypes and shapes at all sites, got others here")
        self._layout = {**agreed, MODEL: self._layout[MODEL]}
        return {"shares": self._member.share(keys)}

    def _mask(self, content: Mapping[str, Mapping[str, bytes]]) -> dict[str, Mapping[str, bytes]]:
        if self.sent:
            raise SecureSumError(f"{self.site} has sent its vector in this round already")
        masked = self._member.mask(joined(self._rings, self._layout), content["shares"])
        self.sent, self._rings = True, {}
        return {"vector": {MODEL: masked.tobytes()}}

    def _reveal(self, content: Mapping[str, Mapping[str, bytes]]) -> dict[str, Mapping[str, bytes]]:
        said = self._member.reveal(content["arrived"].keys())
        return {"own_masks": said.own_masks, "mask_keys": said.mask_keys}


def context_of_mean(context: RoundContext, weight: float) -> RoundContext:
    """Returns a round's context in which the mean has a weight, as if it were a site's."""
    return replace(context, weights={**context.weights, MEAN: weight})
