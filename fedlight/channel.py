"""The two ends of what crosses between server and sites when codecs are named: versions, differences, what was lost.

Up: a site writes the difference between what it trained and what it was sent; what the codecs lose is added to its next
difference (error feedback). Down: the server knows which version of the model every site has and writes the difference
to it; as that difference is taken from the model that the sites have, and not from the one that they should have, what
the codecs lost is part of the next one by itself. A site that has the version already is sent nothing, one that missed
a version, or lost it in a restart, gets the whole model. The sites' model differs a little from the server's, which
keeps its own.

Without lossy codecs values are written in place of differences, and every bit arrives.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fedlight.compression import Pipeline
from fedlight.plugins.codec import Codec, Lossless
from fedlight.state import State, zip_map
from fedlight.update import Broadcast, Update


@dataclass(frozen=True, slots=True)
class Compression:
    """What updates and broadcasts are written with; the same at all sites.

    Attributes:
        uplink: Codecs of updates; none sends tensors as they are.
        downlink: Codecs of broadcasts; none sends the whole model.
        error_feedback: Whether a site adds what its codecs lost to its next update.
    """

    uplink: Sequence[Codec | Lossless] = ()
    downlink: Sequence[Codec | Lossless] = ()
    error_feedback: bool = True

    @property
    def keeps_model(self) -> bool:
        """Whether sites keep the model that they were sent, to which broadcasts are differences."""
        return bool(self.downlink)


class OutdatedError(ValueError):
    """A site was sent what follows a version of the model that it does not have; it needs the whole model."""


class SiteEnd:
    """A site's end. What it keeps between rounds is in ``state_dict``.

    Args:
        compression: Codecs; copied, as some remember the last round.
    """

    def __init__(self, compression: Compression) -> None:
        self._compression = copy.deepcopy(compression)
        self._model: State = {}
        self._version = -1
        self._lost: State = {}

    def receive(self, broadcast: Broadcast) -> Broadcast:
        """Returns the broadcast with the model in it.

        Raises:
            OutdatedError: If it continues a version that this site does not have.
            ValueError: If it cannot be read.
        """
        if not self._compression.keeps_model or broadcast.model == "other":
            return broadcast
        if broadcast.model == "full":
            self._model = dict(broadcast.params)
        elif broadcast.version != self._version + (broadcast.model == "delta"):
            raise OutdatedError(f"version {broadcast.version} of the model is none that follows {self._version}")
        elif broadcast.model == "delta":
            pipeline = Pipeline(self._compression.downlink, self._model)
            found = pipeline.decode(broadcast.payload, broadcast.context.seed, *down(broadcast.version))
            self._model = found if pipeline.exact else zip_map(torch.add, self._model, found)
        self._version = broadcast.version
        return replace(broadcast, params=self._model, payload=b"", model="full")

    def send(self, update: Update, received: Broadcast) -> Update:
        """Returns the update with its parameters written in few bytes.

        Args:
            update: What the site trained.
            received: What ``receive`` returned in this round.
        """
        if not self._compression.uplink or not update.params:
            return update
        pipeline = Pipeline(self._compression.uplink, update.params)
        value = update.params if pipeline.exact else zip_map(torch.sub, update.params, received.params)
        if self._lost and not pipeline.exact:
            value = zip_map(torch.add, value, self._lost)
        seed, purpose = received.context.seed, up(update)
        payload = pipeline.encode(value, seed, *purpose)
        if self._compression.error_feedback and not pipeline.exact:
            self._lost = zip_map(torch.sub, value, pipeline.decode(payload, seed, *purpose))
        return replace(update, params={}, payload=payload)

    def state_dict(self) -> dict[str, Any]:
        """Returns what must survive a restart; nothing where no codec is named."""
        if not (self._compression.uplink or self._compression.downlink):
            return {}
        codecs = [codec.state_dict() for codec in self._compression.uplink]
        return {"model": dict(self._model), "version": self._version, "lost": dict(self._lost), "codecs": codecs}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        if saved:
            self._model, self._version, self._lost = dict(saved["model"]), saved["version"], dict(saved["lost"])
            for codec, kept in zip(self._compression.uplink, saved["codecs"], strict=True):
                codec.load_state_dict(kept)


class ServerEnd:
    """The server's end.

    Args:
        compression: Codecs; copied, as some remember the last round.
        params: The initial model, version 0.
    """

    def __init__(self, compression: Compression, params: State) -> None:
        self._compression = copy.deepcopy(compression)
        self._model = params
        self._version = 0
        self._payload = b""
        self._has: dict[str, int] = {}

    @property
    def model(self) -> State:
        """The model that sites with the newest version have."""
        return self._model

    def held(self, params: State) -> State:
        """Returns the model that sites with the newest version have where the server has ``params``."""
        return self._model if self._compression.keeps_model else params

    def advance(self, params: State, seed: int) -> State:
        """Makes the next version of the model.

        Args:
            params: The model that the server has now.
            seed: Of the run.

        Returns:
            The model that sites will have; without codecs for broadcasts, the server's.
        """
        if not self._compression.keeps_model:
            return params
        self._version += 1
        pipeline = Pipeline(self._compression.downlink, params)
        value = params if pipeline.exact else zip_map(torch.sub, params, self._model)
        self._payload = pipeline.encode(value, seed, *down(self._version))
        found = pipeline.decode(self._payload, seed, *down(self._version))
        self._model = found if pipeline.exact else zip_map(torch.add, self._model, found)
        return self._model

    def messages(self, sites: Iterable[str], broadcast: Broadcast) -> dict[str, Broadcast]:
        """Returns what sites are sent in place of a broadcast with the whole model; equal messages are one object."""
        if not self._compression.keeps_model:
            return dict.fromkeys(sites, broadcast)
        bare = replace(broadcast, version=self._version, params={})
        kinds = {
            0: replace(bare, model="kept"),
            1: replace(bare, model="delta", payload=self._payload),
        }
        full = replace(bare, params=self._model)
        return {site: kinds.get(self._version - self._has.get(site, -2), full) for site in sites}

    def answered(self, site: str, well: bool) -> None:
        """Notes that a site has, or may not have, the version that it was sent last."""
        if well:
            self._has[site] = self._version
        else:
            self._has.pop(site, None)

    def read(self, update: Update, params: State, seed: int) -> Update:
        """Returns an update with its parameters.

        Args:
            update: As it came.
            params: The server's model of the round.
            seed: Of the run.

        Raises:
            ValueError: If it cannot be read, or is written in a way that was not agreed on.
        """
        if bool(update.payload) != bool(self._compression.uplink and params):
            raise ValueError("it is written in another way than this federation agreed on")
        if not update.payload:
            return update
        pipeline = Pipeline(self._compression.uplink, params)
        found = pipeline.decode(update.payload, seed, *up(update))
        return replace(update, params=found if pipeline.exact else zip_map(torch.add, params, found), payload=b"")

    def state_dict(self) -> dict[str, Any]:
        """Returns what the next round depends on; nothing where broadcasts are not written with codecs."""
        if not self._compression.keeps_model:
            return {}
        payload = torch.frombuffer(bytearray(self._payload or b"\0"), dtype=torch.uint8)
        codecs = [codec.state_dict() for codec in self._compression.downlink]
        known = {"model": dict(self._model), "version": self._version, "has": dict(self._has), "codecs": codecs}
        return {**known, "payload": payload if self._payload else None}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        if saved:
            self._model, self._version, self._has = dict(saved["model"]), saved["version"], dict(saved["has"])
            self._payload = b"" if saved["payload"] is None else saved["payload"].numpy().tobytes()
            for codec, kept in zip(self._compression.downlink, saved["codecs"], strict=True):
                codec.load_state_dict(kept)


def up(update: Update) -> tuple[object, ...]:
    """Says what the draws of an update are for."""
    return (update.round, update.site, "up")


def down(version: int) -> tuple[object, ...]:
    """Says what the draws of a broadcast are for."""
    return (version, "down")
