"""The contract of everything that runs clients."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedlight.checkpoint import SiteStore
from fedlight.client import Client, LocalTraining, Progress
from fedlight.data.federated import FederatedDataModule
from fedlight.plugins import ClientPlugin
from fedlight.privacy.accounting import Ledger
from fedlight.tasks.federated_module import FederatedModule
from fedlight.update import Broadcast, Evaluation, Exchange, Sent, SiteFailure, Update

Phase = Literal["fit", "evaluate", "validate", "test", "shares", "masked", "reveal"]
"""Training, the evaluation of every round, and scoring in detail on validation or test cases; then ``STEPS``."""

STEPS: Sequence[Phase] = ("shares", "masked", "reveal")
"""Of secure aggregation, after training: each goes on with what the site has in memory since then."""

Reply = Update | Exchange | tuple[Evaluation, ...] | SiteFailure


@dataclass(frozen=True, slots=True)
class ClientFactory:
    """Makes clients from one skeleton; everything in it can be pickled for another process of ours.

    Attributes:
        module: The task with its network built; every client gets a copy.
        data: Data of all sites.
        plugins: Prototypes of the client plugins; every client gets copies.
        local: How to train.
        folder: Where sites keep their state.
        selected: Whether clients are made in their state of the selected round, for scoring.
    """

    module: FederatedModule
    data: FederatedDataModule
    plugins: Sequence[ClientPlugin]
    local: LocalTraining
    folder: Path
    selected: bool = False

    def __call__(self, site: str, round: int, progress: Progress | None = None) -> Client:
        """Makes the client of a site as it was after a round (0: at the start)."""
        store = self.store(site)
        client = Client(
            site,
            copy.deepcopy(self.module),
            self.data,
            copy.deepcopy(list(self.plugins)),
            self.local,
            progress,
            Ledger(store.ledger),
        )
        saved = store.selected() if self.selected else store.load(round)
        if saved is not None:
            client.load_state_dict(saved)
        return client

    def store(self, site: str) -> SiteStore:
        """Returns where a site keeps its state."""
        return SiteStore(self.folder / site)


class Executor(ABC):
    """Runs clients for the federation.

    A site that fails gives a ``SiteFailure`` in place of its reply, and its next round starts from its state of the
    last round that it finished.

    Attributes:
        remote: Whether sites are elsewhere, with their data and what they keep between rounds.
        concurrent: Whether sites work at the same time, so that who is done first can be known: then there are
            ``start``, ``answer`` and ``stop``, for schedules by the real clock.
    """

    remote = False
    concurrent = False

    def sees(self, data: FederatedDataModule) -> FederatedDataModule:
        """Returns what the server knows of the data: all, unless sites are elsewhere."""
        return data

    def select(self, round: int) -> None:  # noqa: B027  # sites that are here need nothing
        """Lets the sites that are elsewhere keep their state of a round apart, because its model is the best so far."""

    def score_unseen(
        self, institution: str, broadcast: Broadcast, private: bool
    ) -> Sequence[tuple[str, Evaluation]] | SiteFailure | None:
        """Scores at the node of an institution that took no part; None where its data is here.

        Args:
            institution: The institution.
            broadcast: The selected global model.
            private: Whether sites keep parameters of their own.
        """
        return None

    @abstractmethod
    def open(
        self,
        sites: Sequence[str],
        make_client: ClientFactory,
        round: int,
        progress: Progress,
        counted: Mapping[str, int],
    ) -> dict[str, int]:
        """Starts work after a given round.

        Args:
            sites: Who may be called.
            make_client: Makes clients.
            round: The last one that is complete.
            progress: Called a few times a second while a site trains.
            counted: The last round of every site that counts; empty where that is the last one up to ``round`` that it
                has trained.

        Returns:
            The number of training cases of every site.
        """

    @abstractmethod
    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        """Runs one phase at the given sites and yields their replies in the order of ``messages``.

        "fit" gives an ``Update``, each of ``STEPS`` an ``Exchange``, the others a tuple of ``Evaluation``. A site that
        is at work since ``start`` ends that first.
        """

    def start(self, messages: Mapping[str, Broadcast]) -> None:
        """Lets sites begin to train, and does not wait; one that was told to stop begins when it has ended."""
        raise NotImplementedError

    def answer(self, seconds: float | None = None) -> tuple[str, Reply] | None:
        """Waits for the next site that was started and is done.

        Args:
            seconds: How long; None for as long as it takes. What has come already is returned in any case.

        Returns:
            Site and reply; None if none has come.
        """
        raise NotImplementedError

    def stop(self, sites: Sequence[str]) -> None:
        """Ends the work of sites that were started, and does not wait; it counts for nothing, as if they had failed."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Lets go of all clients."""
