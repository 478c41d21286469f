"""FedPer: the last layers stay at the site (Arivazhagan et al., arXiv 1912.00818, Algorithms 1 and 2).

Sites agree on how to see an image but not on what to make of it: annotation habits differ. The body is averaged, the
head is trained along with it and stays where it is.

    body  <- sum_k p_k body^k
    head^k <- what site k made of its own head^k

An institution that took no part is scored with every site's head, with their weighted mean, and with the mean of what
the sites' models say.

Shared: nothing; of the model, the head stays (435 of the default network's 493 thousand parameters with three classes),
1740 bytes less each way. With ["decoder", "head"] 199 thousand stay. Privacy: the head never leaves the site. Secure
aggregation: yes. Cost: 1.00 times FedAvg's time. Settings that matter: ``parts``.

Deviations: parts are named instead of counted from the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fedlight.plugins import ClientPlugin
from fedlight.plugins.parts import named


class FedPer(ClientPlugin):
    """Keeps named parts of the network at the site.

    Args:
        parts: Regular expressions: parameters in whose name one is found stay; none at all gives FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"parts": ()}

    def __init__(self, parts: Sequence[str] = ("head",)) -> None:
        self.parts = parts

    def private(self, params: Mapping[str, Tensor]) -> Collection[str]:
        return named(params, self.parts)
