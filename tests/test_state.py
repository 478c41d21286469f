"""Claims about the arithmetic on states."""

import pytest
import torch

from fedlight.state import RunningMean, digest, fault


def test_weighted_mean_is_the_hand_computed_one() -> None:
    """(1 * 1 + 3 * 5) / 4 = 4."""
    mean = RunningMean()
    mean.add({"w": torch.tensor([1.0])}, weight=1)
    mean.add({"w": torch.tensor([5.0])}, weight=3)
    assert torch.equal(mean.result()["w"], torch.tensor([4.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_states_come_back_with_the_same_bits(dtype: torch.dtype) -> None:
    value = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    mean = RunningMean()
    for weight in (7, 3, 11):
        mean.add({"w": value}, weight)
    assert torch.equal(mean.result()["w"], value)


def test_half_precision_is_accumulated_in_float64() -> None:
    """The mean of 2048 and 2052 is 2050; a float16 sum of two thousand of them would be infinite (limit 65504)."""
    mean = RunningMean()
    for _ in range(1000):
        mean.add({"w": torch.tensor([2048.0], dtype=torch.float16)}, 1)
        mean.add({"w": torch.tensor([2052.0], dtype=torch.float16)}, 1)
    assert mean.result()["w"].item() == 2050


def test_integer_entries_keep_their_dtype_and_the_largest_value() -> None:
    mean = RunningMean()
    mean.add({"n": torch.tensor(5)}, 1)
    mean.add({"n": torch.tensor(9)}, 1)
    assert mean.result()["n"].dtype == torch.int64
    assert mean.result()["n"].item() == 9


def test_summands_are_not_modified() -> None:
    first, second = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    mean = RunningMean()
    mean.add(first, 1)
    mean.add(second, 1)
    assert torch.equal(first["w"], torch.ones(2))
    assert torch.equal(second["w"], torch.zeros(2))


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_that_make_no_mean_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        RunningMean().add({"w": torch.ones(1)}, weight)


@pytest.mark.parametrize(
    ("state", "clause"),
    [
        ({}, "w is missing"),
        ({"w": torch.ones(2), "x": torch.ones(1)}, "x is not a tensor"),
        ({"w": torch.ones(3)}, "w has shape (3,), expected (2,)"),
        ({"w": torch.ones(2, dtype=torch.float64)}, "w has dtype torch.float64"),
        ({"w": torch.tensor([1.0, float("nan")])}, "w holds values that are not finite"),
    ],
)
def test_a_faulty_state_is_named(state: dict[str, torch.Tensor], clause: str) -> None:
    assert (fault(state, {"w": torch.ones(2)}) or "").startswith(clause)


def test_a_sound_state_has_no_fault() -> None:
    assert fault({"w": torch.zeros(2)}, {"w": torch.ones(2)}) is None


def test_digest_sees_a_single_bit() -> None:
    one = torch.ones(4)
    other = one.clone()
    other[2] = torch.nextafter(other[2], torch.tensor(2.0))
    assert digest({"w": one}) == digest({"w": one.clone()})
    assert digest({"w": one}) != digest({"w": other})
