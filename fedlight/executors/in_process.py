"""One site after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from fedlight.client import Progress
from fedlight.executors.executor import ClientFactory, Executor, Phase, Reply
from fedlight.executors.workplace import RESIDENT, Workplace, torch_threads
from fedlight.preparation import ConfigError
from fedlight.update import Sent


class InProcess(Executor):
    """Trains the sites one after the other in the process of the server.

    Args:
        resident: Clients that stay in memory; others are made anew from their state on disk when it is their turn.
    """

    def __init__(self, resident: int = RESIDENT) -> None:
        self.resident = resident

    def open(
        self,
        sites: Sequence[str],
        make_client: ClientFactory,
        round: int,
        progress: Progress,
        counted: Mapping[str, int],
    ) -> dict[str, int]:
        """Remembers how to make clients; each is made when it is first called.

        Raises:
            ConfigError: If an argument cannot work.
        """
        if self.resident < 1:
            raise ConfigError(f"executor.resident must be at least 1, got {self.resident}. Leave it out.")
        self._threads = ExitStack()
        self._threads.enter_context(torch_threads(make_client.local.threads))
        self._workplace = Workplace(make_client, {**dict.fromkeys(sites, round), **counted}, progress, self.resident)
        return {site: make_client.data.num_samples(site) for site in sites}

    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        """Runs one phase, site by site."""
        for site, message in messages.items():
            yield site, self._workplace.work(phase, site, message)

    def close(self) -> None:
        """Lets go of all clients."""
        del self._workplace
        self._threads.close()
