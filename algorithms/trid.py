"""TriD: random feature statistics in random channels (Treasure in Distribution, Chen et al., arXiv 2305.19949).

Mixing the statistics of images that are there stays between them. Here half of an image's channels get statistics that
are drawn from a uniform distribution, whatever the data.

    sigma_mix = P sigma' + (1 - P) sigma(x)       sigma', mu' ~ U(0, 1)
    mu_mix    = P mu'    + (1 - P) mu(x)          P ~ Bernoulli(lambda), lambda ~ Beta(0.1, 0.1)
    TriD(x) = sigma_mix (x - mu(x)) / sigma(x) + mu_mix             all of them one a channel and image

Shared: nothing. Privacy: nothing but the model leaves a site. Secure aggregation: yes, no message is added. Cost: 1.04
times FedAvg's time. Settings that matter: ``stages``: U(0, 1) suits features that were normalised and went through a
ReLU, not images with other units; ``p``.

Deviations: there is no alpha. A coin that falls with a probability from Beta(alpha, alpha), drawn for it alone, is a
fair coin whatever alpha, so P is one here; the authors' draws have the same law. The authors augment after the
first two residual stages of a ResNet, behind its stem; here after the first two stages of any encoder. As in
their code a coin is tossed for a whole batch at every stage, and mu(x) and sigma(x) carry no gradient; their variance
is unbiased, this one is not. Statistics count valid pixels only; what is not valid keeps its values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlight.plugins.batch_style import BatchStyle
from fedlight.plugins.style import change_style, mean_and_std, where_valid


class TriD(BatchStyle):
    """Gives half of an image's channels statistics that are drawn from U(0, 1).

    Args:
        p: Probability that a batch is augmented at a stage; 0 gives FedAvg.
        stages: Where features are augmented.
        eps: Added to variances before the root.
    """

    example_independent = True

    def __init__(self, p: float = 0.5, stages: Sequence[str] = ("encoder1", "encoder2"), eps: float = 1e-6) -> None:
        self.p = p
        self.stages = stages
        self.eps = eps

    def put_on(self, x: Tensor, valid: Tensor) -> Tensor:
        drawn = torch.rand(2, *x.shape[:2], 1, 1, generator=self.generator).to(x.device)  # mu', sigma'
        chosen = (torch.rand(*x.shape[:2], 1, 1, generator=self.generator) < 0.5).to(x.device)
        mean, std = mean_and_std(x, valid, self.eps)
        return where_valid(valid, randomise(x, mean, std, drawn[0], drawn[1], chosen), x)


def randomise(x: Tensor, mean: Tensor, std: Tensor, new_mean: Tensor, new_std: Tensor, chosen: Tensor) -> Tensor:
    """Computes TriD for given draws.

    Args:
        x: (N, C, h, w).
        mean: (N, C, 1, 1), of each instance, as all that follow.
        std: Positive.
        new_mean: mu'.
        new_std: sigma'.
        chosen: P, bool.

    Returns:
        (N, C, h, w), in the dtype of ``x``.
    """
    return change_style(x, mean, std, torch.where(chosen, new_mean, mean), torch.where(chosen, new_std, std))
