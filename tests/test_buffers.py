"""Claims about the running statistics of BatchNorm."""

import pytest
import torch
from torch import Tensor, nn

from fedlight.buffers import BufferAverage, recalibrate
from fedlight.state import State, buffers_of


def site(mean: float, variance: float, batches: int = 1) -> State:
    return {
        "norm.running_mean": torch.tensor([mean]),
        "norm.running_var": torch.tensor([variance]),
        "norm.num_batches_tracked": torch.tensor(batches),
        "scale": torch.tensor([mean]),
    }


def union(*sites: tuple[State, float]) -> State:
    average = BufferAverage()
    for buffers, weight in sites:
        average.add(buffers, weight)
    return average.result()


def test_variance_follows_the_law_of_total_variance() -> None:
    """Means 0 and 4 with weights 3 and 1 have mean 1; between: 3/4 * 1 + 1/4 * 9 = 3, within: (3 * 1 + 5) / 4 = 2."""
    result = union((site(0.0, 1.0, 7), 3), (site(4.0, 5.0, 2), 1))
    assert result["norm.running_mean"].item() == 1
    assert result["norm.running_var"].item() == 5
    assert result["scale"].item() == 1


def test_counters_keep_dtype_and_largest_value() -> None:
    counter = union((site(0.0, 1.0, 7), 1), (site(0.0, 1.0, 2), 1))["norm.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert counter.item() == 7


def test_equal_sites_are_a_fixed_point() -> None:
    buffers = site(0.1, 0.7)
    result = union((buffers, 3), (buffers, 11))
    assert all(torch.equal(result[name], buffers[name]) for name in buffers)


def test_large_means_do_not_swallow_small_variances() -> None:
    """10000 squared is 1e8, where float32 steps by 8: a variance of 0.25 must come back all the same."""
    assert union((site(10000.0, 0.25), 1), (site(10000.0, 0.25), 1))["norm.running_var"].item() == 0.25


def test_average_is_that_of_the_pooled_data() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(40, dtype=torch.float64, generator=generator) * s + s for s in (1, 2, 5)]
    sites = [({"running_mean": p.mean()[None], "running_var": p.var(correction=0)[None]}, 40.0) for p in parts]
    pooled = torch.cat(parts)
    result = union(*sites)
    assert result["running_mean"].item() == pytest.approx(pooled.mean().item())
    assert result["running_var"].item() == pytest.approx(pooled.var(correction=0).item())


def test_inputs_are_not_modified() -> None:
    first, second = site(0.0, 1.0), site(4.0, 5.0)
    union((first, 1), (second, 1))
    assert (first["norm.running_var"].item(), second["norm.running_var"].item()) == (1, 5)


def test_no_site_has_no_average() -> None:
    with pytest.raises(ValueError, match="no states"):
        BufferAverage().result()


def batches(*values: float) -> list[Tensor]:
    """One-channel images (1, 1, 1, 2) whose pixels are 0 and a value."""
    return [torch.tensor([0.0, value]).reshape(1, 1, 1, 2) for value in values]


def test_recalibration_is_the_mean_over_batches() -> None:
    """Pixels 0 and 2, then 0 and 4: means 1 and 2, unbiased variances 2 and 8."""
    network = nn.Sequential(nn.BatchNorm2d(1, momentum=0.3))
    network(torch.randn(4, 1, 4, 4))  # what was there before does not matter
    recalibrate(network, batches(2.0, 4.0))
    buffers = buffers_of(network)
    assert buffers["0.running_mean"].item() == 1.5
    assert buffers["0.running_var"].item() == 5
    assert buffers["0.num_batches_tracked"].item() == 2


def test_recalibration_counts_images_and_not_batches() -> None:
    """One image of 8 and three of 0, in batches of 1 and 3: the mean over images is 2, that over batches 4."""
    network = nn.Sequential(nn.BatchNorm2d(1))
    recalibrate(network, [torch.full((1, 1, 2, 2), 8.0), torch.zeros(3, 1, 2, 2)])
    assert buffers_of(network)["0.running_mean"].item() == 2


def test_recalibration_leaves_modes_momentum_and_parameters() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(1).eval())
    numbers = torch.random.get_rng_state()
    recalibrate(network, batches(2.0, 4.0))
    assert [module.training for module in network] == [True, True, False]
    assert [network[0].momentum, network[2].momentum] == [0.3, 0.1]
    assert torch.equal(torch.random.get_rng_state(), numbers)  # dropout drew nothing
    assert all(parameter.grad is None for parameter in network.parameters())


def test_recalibration_without_a_batch_changes_nothing() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1))
    network(torch.randn(4, 1, 4, 4))
    before = buffers_of(network)
    recalibrate(network, [])
    assert all(torch.equal(value, before[name]) for name, value in buffers_of(network).items())
