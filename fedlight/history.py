"""Earlier versions of the model, for sites that started from one and answer later."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from fedlight import state
from fedlight.state import State, zip_map
from fedlight.update import Broadcast, Shared, Update


class History:
    """The versions that somebody still works on: 0 is the initial model, t that after round t."""

    def __init__(self) -> None:
        self._versions: dict[int, tuple[State, State, Shared]] = {}

    def remember(self, version: int, broadcast: Broadcast, wanted: Collection[int]) -> None:
        """Keeps the newest version if somebody will come back to it, and forgets all that nobody will.

        Args:
            version: The newest one.
            broadcast: What sites are sent of it.
            wanted: Versions that are needed later.
        """
        self._versions[version] = (broadcast.params, broadcast.buffers, broadcast.shared)
        self._versions = {number: kept for number, kept in self._versions.items() if number in wanted}

    def broadcast(self, version: int, now: Broadcast) -> Broadcast:
        """Returns a broadcast of this round with the model and the statistics of an earlier version."""
        params, buffers, shared = self._versions[version]
        return replace(now, params=params, buffers=buffers, shared=shared)

    def state_dict(self) -> dict[str, Any]:
        """Returns the versions: tensors and plain values."""
        return {
            str(number): {
                "params": dict(params),
                "buffers": dict(buffers),
                "shared": {name: dict(part) for name, part in shared.items()},
            }
            for number, (params, buffers, shared) in self._versions.items()
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        self._versions = {
            int(number): (kept["params"], kept["buffers"], kept["shared"]) for number, kept in saved.items()
        }


def rebased(update: Update, start: Broadcast, now: Broadcast, factor: float) -> Update:
    """Returns an update as if the site had started from the newest model and had moved a share of its way.

        w' = w_now + factor (w - w_start)

    Args:
        update: Of a site; one that the server would refuse is returned as it is.
        start: What the site was sent.
        now: What the server has.
        factor: In [0, 1].
    """
    if state.fault(update.params, start.params) is not None:
        return update
    moved = zip_map(
        lambda new, old, base: base + (factor * (new.double() - old.double())).to(base.dtype),
        update.params,
        start.params,
        now.params,
    )
    return replace(update, params=moved)
