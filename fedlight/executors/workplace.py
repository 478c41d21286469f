"""The clients of one process: made when they are called, their failures turned into answers."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from fedlight.client import Client, Progress
from fedlight.data.federated import Stage
from fedlight.executors.executor import ClientFactory, Phase, Reply
from fedlight.update import Broadcast, SiteFailure

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Workplace:
    """Where the sites of one process work, one after the other.

    A site that raised is made anew, from its state of the last round that it finished, when it is called next.

    Args:
        make_client: Makes clients.
        finished: The last round that every site has finished; 0 where it has not taken part.
        progress: Called a few times a second while a site trains.
    """

    def __init__(
        self, make_client: ClientFactory, finished: Mapping[str, int], progress: Progress | None = None
    ) -> None:
        self._make_client, self._progress = make_client, progress
        self._finished = dict(finished)
        self._clients: dict[str, Client] = {}

    def work(self, phase: Phase, site: str, broadcast: Broadcast) -> Reply:
        """Runs one phase at one site.

        What it raises becomes a failure, its trace goes to errors.log; a full disk concerns all and is raised.
        """
        try:
            return self._work(phase, site, broadcast)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            with (self._make_client.folder.parent / "errors.log").open("a") as file:
                file.write(f"{site}, round {broadcast.context.round}, {phase}\n{traceback.format_exc()}\n")
            self._clients.pop(site, None)
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return SiteFailure(site, broadcast.context.round, phase, "raised", " ".join(reason.split()))

    def _work(self, phase: Phase, site: str, broadcast: Broadcast) -> Reply:
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


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Sets torch's threads, None for its own choice, and puts back what was there."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
