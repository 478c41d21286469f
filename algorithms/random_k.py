"""RandomK: writes some of what changed, at places that both ends draw (Wangni et al., arXiv 1710.09854).

As TopK, but the places come from the run's seed, so only numbers are written.

    carried = x at k places drawn without replacement;  decoded: these, times n / k if ``scaled``, and zeros

Shared: nothing but the model, which takes 104267 bytes in place of 1972364. Privacy: as FedAvg. Secure aggregation:
possible, as all sites could draw the same places; not done. Cost: 9 ms a message of the default network. Settings that
matter: ``share``.

Deviations: ``scaled`` makes it unbiased, as in the first paper, but error feedback with it diverges; so it is off by
default and what is left out is returned by error feedback, as in Stich et al. (arXiv 1809.07599).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedlight.plugins.codec import Layout, meta
from fedlight.plugins.sparse import SparseCodec, number, scattered
from fedlight.state import State


class RandomK(SparseCodec):
    """Writes numbers at places that are drawn anew in every round.

    Args:
        share: Of the numbers of every tensor, in (0, 1]; 1 writes all.
        scaled: Whether what is decoded is n / k times as large, which makes it unbiased; not with error feedback.
    """

    def __init__(self, share: float = 0.05, scaled: bool = False) -> None:
        self.share = share
        self.scaled = scaled

    @property
    def unbiased(self) -> bool:
        return self.scaled or self.exact

    @property
    def contracts(self) -> bool:
        return not self.scaled

    def layout(self, like: Layout) -> tuple[Layout, Layout]:
        values = {n: meta(number(value.numel(), self.share), dtype=value.dtype) for n, value in like.items()}
        return values, {}

    def encode(self, state: State, generator: torch.Generator) -> tuple[State, State]:
        return {name: value.flatten()[self._places(value, generator)] for name, value in state.items()}, {}

    def decode(self, carried: State, beside: State, like: Layout, generator: torch.Generator) -> State:
        found = {}
        for name, shape in like.items():
            places = self._places(shape, generator)
            factor = shape.numel() / len(places) if self.scaled else 1.0
            found[name] = scattered(carried[name].to(shape.dtype) * factor, places, shape)
        return found

    def _places(self, value: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randperm(value.numel(), generator=generator)[: number(value.numel(), self.share)]
