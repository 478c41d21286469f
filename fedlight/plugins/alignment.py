"""Feature alignment: what its members share."""

from __future__ import annotations

from typing import ClassVar

from fedlight.plugins.client_plugin import ClientPlugin
from fedlight.update import RoundContext


class Alignment(ClientPlugin):
    """Pulls a site's features towards a reference that the federation learned in the round before."""

    kind: ClassVar[str] = "alignment"


def ramp(context: RoundContext, share: float) -> float:
    """Grows linearly from 0 in the first round to 1 after a share of the planned rounds, and stays there.

    A share of 0 gives 1 from the second round on; in the first there is no reference yet.
    """
    return min(1.0, context.progress / share) if share > 0 else float(context.round > 1)
