"""The server's half of an algorithm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fedlight.plugins.plugin import Plugin
from fedlight.state import State
from fedlight.update import RoundContext, Update

if TYPE_CHECKING:
    from fedlight.plugins.client_plugin import ClientPlugin


class Aggregator(Plugin):
    """Turns the updates of a round into the next global parameters.

    The federation calls ``begin``, then ``add`` once for every accepted update in site order, then ``finish``. A
    round that ends with too few sites is abandoned without ``finish``, so server state (momenta, control variates)
    may change in ``finish`` only.
    """

    linear: ClassVar[bool] = False
    """True if only weighted sums of updates are needed, so that secure aggregation is possible."""

    averages: ClassVar[bool] = True
    """True if sites that agree get what they agree on; False for a server that takes steps of a length of its own."""

    bounded: ClassVar[bool] = False
    """True if what it promises needs every change as long as its client half left it: lossy codecs change that."""

    measures: ClassVar[Sequence[str]] = ()
    """What every client measures for this aggregator and sends in ``Update.metrics``.

    "start_loss" is the mean supervised loss of the model that the site was sent, over its training cases.
    "local_scores" are those of the site's own trained model on its validation cases: "local/dice", ...
    """

    kind: ClassVar[str] = "aggregator"

    amplified: bool = False
    """True if what it says of privacy counts on every site being drawn by chance alone, which nobody sees."""

    def open(self, folder: Path) -> None:
        """Takes the run's folder before the first round that is trained, after ``load_state_dict``.

        Only for what is to stay written when a resume goes back behind a round; all else belongs to ``state_dict``.

        Raises:
            DamagedFileError: If what was written there cannot be read.
        """

    @abstractmethod
    def begin(self, context: RoundContext, params: State) -> None:
        """Opens a round.

        Args:
            context: Cohort, weights and the latest evaluations.
            params: The global parameters that the sites start from; not to be modified.
        """

    @abstractmethod
    def add(self, update: Update) -> None:
        """Takes one update, weighted by ``context.weights[update.site]``; it must not be modified."""

    @abstractmethod
    def finish(self) -> State:
        """Returns the next global parameters, with the names, shapes and dtypes of ``params``."""

    def report(self) -> Mapping[str, float]:
        """Returns numbers about the rounds that are finished, for the record of the last of them."""
        return {}

    def client_half(self) -> ClientPlugin | None:
        """Returns the plugin that every client must run for this aggregator, if any."""
        return None
