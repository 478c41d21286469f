"""What the tests of tasks have in common."""

from collections.abc import Callable

import pytest
import torch

from fedlight.batch import Batch

MakeBatch = Callable[..., Batch]


@pytest.fixture
def make_batch() -> MakeBatch:
    """Makes a batch of discs on a noisy ground, the same every time."""

    def make(count: int = 2, size: tuple[int, int] = (32, 32), channels: int = 3, classes: int = 2) -> Batch:
        y, x = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
        radius = (y - size[0] / 2).square() + (x - size[1] / 2).square()
        mask = sum((radius < (min(size) / (2 + 2 * k)) ** 2).long() for k in range(classes - 1))
        assert isinstance(mask, torch.Tensor)
        noise = torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0))
        return Batch(
            image=noise + mask,
            mask=mask.expand(count, *size).clone(),
            valid=torch.ones(count, *size, dtype=torch.bool),
            case=[f"case{i}" for i in range(count)],
            spacing=torch.ones(count, 2),
            size=torch.tensor([size] * count),
        )

    return make
