"""One site after the other, in this process."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Mapping, Sequence

import torch

from fedlight.client import Client, Progress
from fedlight.data.federated import Stage
from fedlight.executors.executor import ClientFactory, Executor, Phase, Reply
from fedlight.update import Broadcast, SiteFailure

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class InProcess(Executor):
    """Trains the sites one after the other in the process of the server."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}

    def open(self, sites: Sequence[str], make_client: ClientFactory, round: int, progress: Progress) -> dict[str, int]:
        """Remembers how to make clients; each is made when it is first called."""
        self._make_client, self._progress = make_client, progress
        self._finished = dict.fromkeys(sites, round)
        self._threads = torch.get_num_threads()
        torch.set_num_threads(make_client.local.threads or self._threads)
        return {site: make_client.data.num_samples(site) for site in sites}

    def call(self, phase: Phase, messages: Mapping[str, Broadcast]) -> Iterator[tuple[str, Reply]]:
        """Runs one phase, site by site."""
        for site, broadcast in messages.items():
            yield site, self._guarded(phase, site, broadcast)

    def close(self) -> None:
        """Lets go of all clients."""
        self._clients.clear()
        torch.set_num_threads(self._threads)

    def _guarded(self, phase: Phase, site: str, broadcast: Broadcast) -> Reply:
        """Turns what a site raises into a failure, its trace in errors.log; a full disk concerns all and is raised."""
        try:
            return self._run(phase, site, broadcast)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            with (self._make_client.folder.parent / "errors.log").open("a") as file:
                file.write(f"{site}, round {broadcast.context.round}, {phase}\n{traceback.format_exc()}\n")
            self._clients.pop(site, None)  # the next call makes it anew from its last finished round
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return SiteFailure(site, broadcast.context.round, phase, "raised", " ".join(reason.split()))

    def _run(self, phase: Phase, site: str, broadcast: Broadcast) -> Reply:
        if site not in self._clients:
            self._clients[site] = self._make_client(site, self._finished[site], self._progress)
        client = self._clients[site]
        if phase != "fit":
            stage: Stage = "test" if phase == "test" else "val"
            return client.evaluate(broadcast, stage, detailed=phase != "evaluate")
        update = client.fit(broadcast)
        if not client.sound:
            # the server refuses the update by name; the site goes on from its last round, else it were spoilt for good
            del self._clients[site]
            return update
        self._make_client.store(site).save(broadcast.context.round, client.state_dict())
        self._finished[site] = broadcast.context.round
        return update
