"""FedSAM: sites look for flat minima (Caldarola et al., arXiv 2203.11834, section 4; Qu et al., arXiv 2206.02618).

Local training takes its gradient where the loss is highest nearby (SAM, Foret et al., arXiv 2010.01412). Models that
end in flat minima lose less when they are averaged and when images look different.

    eps = rho g / ||g||        g = grad F_k(w), one norm over all tensors           (SAM, equation 2 with p = 2)
    w  <- step of the site's optimizer from w with the gradient grad F_k(w + eps)   (SAM, Algorithm 1)

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes. Cost: every step makes two passes forward and backward,
1.96 times FedAvg's time, and keeps a copy of the parameters (2 MB for 493 thousand). Settings that matter: ``rho``; the
federated papers choose among 0.01 to 0.5. With an adaptive optimizer use less.

Deviations: F_k holds every penalty, on the same styles in both passes, but dropout draws anew; running statistics of
BatchNorm see both passes. Clipping acts on the second gradient alone. Under fp16 the first gradient is not scaled up:
prefer bf16. The authors also average the server's models over the last quarter of the rounds: list SWA beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from fedlight.plugins.sharpness import SharpnessAware, sam_perturbation


class FedSAM(SharpnessAware):
    """Takes every gradient where the loss is highest within a small ball around the model.

    Args:
        rho: Radius of the ball; 0 gives FedAvg.
    """

    null: ClassVar[Mapping[str, Any]] = {"rho": 0.0}

    def __init__(self, rho: float = 0.1) -> None:
        self.rho = rho

    def perturbation(self, params: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return sam_perturbation(gradients, self.rho)
