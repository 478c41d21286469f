"""The steps of DP-SGD, by Opacus: gradients of single examples, clipped, with noise that the site keeps secret."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import nn

from fedlight.privacy import secret

_LEFT_ON_LAYERS = ("activations", "max_batch_len", "ft_compute_sample_grad")
_LEFT_ON_PARAMETERS = ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample")


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus has no types
    """Opacus' optimizer with noise from the operating system in place of a generator that somebody could repeat."""

    def add_noise(self) -> None:
        """Adds noise to the sum of clipped gradients, in double precision, rounded once."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            p.grad = secret.noisy(p.summed_grad, secret.normal(p.shape), deviation).view_as(p)

    def scale_grad(self) -> None:
        """Divides by the examples of a step on average; how many there are is secret."""
        for p in self.params:
            p.grad /= self.expected_batch_size


@contextmanager
def example_gradients(network: nn.Module) -> Iterator[None]:
    """Lets backward passes of a network leave ``p.grad_sample``, (N, *p.shape), for a loss that is a mean over N."""
    in_place: list[Any] = [layer for layer in network.modules() if getattr(layer, "inplace", False)]
    for layer in in_place:
        layer.inplace = False  # what hooks of gradients have seen cannot be changed in place
    hooks = GradSampleHooks(network, loss_reduction="mean")
    try:
        with warnings.catch_warnings():
            # images need no gradient, and the first layer's parameters get theirs all the same
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        hooks.cleanup()
        _clean(network)
        for layer in in_place:
            layer.inplace = True


def _clean(network: nn.Module) -> None:
    """Removes what Opacus leaves behind: examples' gradients and activations."""
    for owners, names in ((network.modules(), _LEFT_ON_LAYERS), (network.parameters(), _LEFT_ON_PARAMETERS)):
        for owner in owners:
            for name in names:
                owner.__dict__.pop(name, None)
