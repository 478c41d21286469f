"""FedASAM: flat minima, measured relative to the size of every weight (Caldarola et al., arXiv 2203.11834).

As FedSAM, but the neighbourhood is stretched along large weights (ASAM, Kwon et al., arXiv 2102.11600), so that how
flat a minimum is does not depend on how layers are scaled.

    eps = rho T^2 g / ||T g||        T = |w| + eta elementwise, one norm over all tensors   (ASAM, section 4)
    w  <- step of the site's optimizer from w with the gradient grad F_k(w + eps)

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes. Cost: every step makes two passes forward and backward,
1.97 times FedAvg's time, and keeps a copy of the parameters. Settings that matter: ``rho``; 0.7 and eta 0.2 are the
authors' values for image classification.

Released code: only parameters with "weight" in their name are scaled, for all others T = 1; ``variant: released`` does
that.

Deviations: the paper's T covers all parameters, as here. F_k holds every penalty, on the same styles in both passes,
but dropout draws anew; running statistics of BatchNorm see both passes. Clipping acts on the second gradient alone.
Under fp16 the first gradient is not scaled up: prefer bf16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from fedlight.plugins.sharpness import SharpnessAware, length


class FedASAM(SharpnessAware):
    """Takes every gradient where the loss is highest within a ball that is wider along large weights.

    Args:
        rho: Radius of the ball; 0 gives FedAvg.
        eta: Added to the size of every weight, so that small ones move too.
        variant: "paper" scales all parameters, "released" those with "weight" in their name.
    """

    null: ClassVar[Mapping[str, Any]] = {"rho": 0.0}

    def __init__(self, rho: float = 0.7, eta: float = 0.2, variant: Literal["paper", "released"] = "paper") -> None:
        self.rho = rho
        self.eta = eta
        self.variant = variant

    def validate(self) -> None:
        super().validate()
        if not self.eta >= 0:
            raise ValueError(f"eta must not be negative, got {self.eta}. The default is 0.2.")

    def perturbation(self, params: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        scaled = [self.variant == "paper" or "weight" in name for name in self._names]
        return asam_perturbation(params, gradients, self.rho, self.eta, scaled)


def asam_perturbation(
    params: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, eta: float, scaled: Sequence[bool]
) -> list[Tensor]:
    """Returns eps for every parameter; those that are not ``scaled`` have T = 1."""
    both = list(zip(params, gradients, scaled, strict=True))
    scales = [p.detach().abs() + eta if stretch else p.new_ones(()) for p, _, stretch in both]
    stretched = [t * g for t, g in zip(scales, gradients, strict=True)]
    factor = rho / length(stretched)
    return [factor * t * g for t, g in zip(scales, stretched, strict=True)]
