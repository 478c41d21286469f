"""FedBN: normalisation layers stay at the site (Li et al., arXiv 2102.07623, section 4, Algorithm 1).

What differs between hospitals is largely the scale and shift of features. A site keeps those of its normalisation
layers to itself and the federation averages everything else.

    w_norm^k  <- what site k made of its own w_norm^k
    w_other   <- sum_k p_k w_other^k

An institution that took no part has no layers of its own. It is scored with every site's and with their weighted mean,
running statistics being computed from its own unlabelled images, and with the mean of what the sites' models say.

Shared: nothing; of the model, the parameters of normalisation layers stay (1472 of the default network's 493 thousand),
5888 bytes less each way. Privacy: scales and shifts, which tell about a site's intensities, never leave it. Secure
aggregation: yes. Cost: 1.00 times FedAvg's time. Settings that matter: ``model.norm`` and ``federation.buffers``.

Deviations: the paper's layers are BatchNorm: with ``model.norm: batch`` set ``federation.buffers: local`` (the config
does), so that running statistics stay as well. GroupNorm has none; there only scales and shifts are private. SiloBN
(Andreux et al., arXiv 2008.07424) shares scales and shifts and keeps the statistics: that is
configs/algorithms/silobn.yaml.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fedlight.plugins import ClientPlugin
from fedlight.plugins.parts import named, of_normalisation


class FedBN(ClientPlugin):
    """Keeps the parameters of normalisation layers at the site.

    Args:
        parts: Regular expressions: layers in whose parameters' names one is found; "" means all, none at all gives
            FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"parts": ()}

    def __init__(self, parts: Sequence[str] = ("",)) -> None:
        self.parts = parts

    def private(self, params: Mapping[str, Tensor]) -> Collection[str]:
        norms = {name: params[name] for name in of_normalisation(params)}
        if self.parts and params and not norms:
            raise ValueError("the network must have normalisation layers, got none. Leave FedBN out.")
        return named(norms, self.parts)
