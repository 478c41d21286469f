"""What codecs write is as long as they say, comes back as they say, and nothing else is believed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fedlight_algorithms import Half, LowRank, Quantise, RandomK, TopK, Zstd
from fedlight_algorithms.low_rank import factors
from fedlight_algorithms.quantise import packed, quantised, unpacked

from fedlight.compression import PayloadError, Pipeline
from fedlight.plugins.sparse import number, read, written
from fedlight.state import State

Codecs = Sequence[Any]


def model(seed: int = 0) -> State:
    """A kernel (24, 8, 3, 3), a matrix, a list of numbers and a scalar."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"conv": (24, 8, 3, 3), "head": (2, 24), "bias": (24,), "scale": ()}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


MASK, PLAIN, KERNEL, HEAD = 1, 4 * 25, 24 * 72, 48
"""Bytes of the mask of four tensors and of the two that no codec touches; numbers of the two that codecs write."""


def sent(codecs: Codecs, state: State, **settings: Any) -> State:
    pipeline = Pipeline(codecs, state, **settings)
    return pipeline.decode(pipeline.encode(state, 0, "up"), 0, "up")


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codecs", "coded"),
    [
        ([], 4 * (KERNEL + HEAD)),
        ([Half()], 2 * (KERNEL + HEAD)),
        ([Half("bfloat16")], 2 * (KERNEL + HEAD)),
        ([Quantise(8)], KERNEL + 4 * 24 + HEAD + 4 * 2),
        ([Quantise(4)], KERNEL // 2 + 4 * 24 + HEAD // 2 + 4 * 2),
        ([Quantise(2)], KERNEL // 4 + 4 * 24 + HEAD // 4 + 4 * 2),
        ([TopK(0.01)], (4 + 2) * 18 + (4 + 2) * 1),  # ceil(17.28), ceil(0.48); a place in two bytes
        ([TopK(0.25)], 4 * 432 + KERNEL // 8 + 4 * 12 + HEAD // 8),  # a bit a number is shorter than 432 places
        ([RandomK(0.25)], 4 * 432 + 4 * 12),
        ([LowRank(2)], 4 * 2 * (24 + 72) + 4 * HEAD),  # 2 (2 + 24) numbers are no fewer than 48
        ([TopK(0.25), Quantise(4)], 216 + 4 + KERNEL // 8 + 6 + 4 + HEAD // 8),  # one scale for a list of numbers
        ([LowRank(2), Quantise(8)], 2 * (24 + 72) + 4 * (2 + 2) + HEAD + 4 * 2),
    ],
)
def test_a_payload_is_as_long_as_the_formula_says(codecs: Codecs, coded: int) -> None:
    pipeline = Pipeline(codecs, model())
    assert pipeline.num_bytes() == MASK + PLAIN + coded
    assert len(pipeline.encode(model(), 0)) == pipeline.num_bytes()


def test_a_tensor_of_zeros_is_not_sent() -> None:
    """An unchanged kernel costs its bit in the mask; it comes back as zeros."""
    state = {**model(), "conv": torch.zeros(24, 8, 3, 3)}
    pipeline = Pipeline([Quantise(8)], state)
    data = pipeline.encode(state, 0)
    assert len(data) == MASK + PLAIN + HEAD + 4 * 2
    assert torch.equal(pipeline.decode(data, 0)["conv"], state["conv"])


def test_zstd_shortens_what_repeats_itself() -> None:
    state = {"conv": torch.tensor([[1.0, -1.0] * 500] * 4)}
    assert len(Pipeline([Quantise(8), Zstd()], state).encode(state, 0)) < 100
    assert torch.equal(sent([Zstd()], state)["conv"], state["conv"])


# --- what comes back -------------------------------------------------------------------------------------------------

EXACT: list[Codecs] = [[], [Zstd()], [TopK(1.0)], [RandomK(1.0)], [TopK(1.0), Zstd()]]
LOSSY: list[Codecs] = [
    [Half()],
    [Half("bfloat16")],
    [Quantise(8)],
    [Quantise(4, stochastic=False)],
    [TopK(0.1)],
    [RandomK(0.1)],
    [LowRank(4)],
    [TopK(0.3), Quantise(4), Zstd()],
    [LowRank(2), Half()],
]


@pytest.mark.parametrize("codecs", EXACT)
def test_what_loses_nothing_gives_the_same_bits(codecs: Codecs) -> None:
    found = sent(codecs, model())
    assert all(torch.equal(found[name], value) for name, value in model().items())
    assert Pipeline(codecs, model()).exact


@pytest.mark.parametrize("codecs", LOSSY)
def test_what_loses_something_keeps_names_shapes_and_small_tensors(codecs: Codecs) -> None:
    state = model()
    before = {name: value.clone() for name, value in state.items()}
    found = sent(codecs, state)
    assert {name: (v.shape, v.dtype) for name, v in found.items()} == {n: (v.shape, v.dtype) for n, v in state.items()}
    assert torch.equal(found["bias"], state["bias"])
    assert torch.equal(found["scale"], state["scale"])
    assert 0 < (found["conv"] - state["conv"]).norm() < state["conv"].norm()  # a contraction: error feedback converges
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert not Pipeline(codecs, state).exact


@pytest.mark.parametrize("codecs", LOSSY)
def test_equal_draws_give_equal_bytes(codecs: Codecs) -> None:
    one, other = Pipeline(copy.deepcopy(codecs), model()), Pipeline(copy.deepcopy(codecs), model())
    assert one.encode(model(), 3, "up", 1) == other.encode(model(), 3, "up", 1)


@pytest.mark.parametrize("codecs", [[], [Half()], [Quantise(8)], [TopK(0.5)], [LowRank(1)], [Zstd()]])
def test_every_dtype_and_every_shape_passes(codecs: Codecs) -> None:
    state = {
        "half": torch.randn(4, 6).bfloat16(),
        "empty": torch.zeros(0, 3),
        "one": torch.ones(1, 1),
        "counter": torch.tensor([[3, 4]]),
        "flags": torch.tensor([True, False]),
    }
    found = sent(codecs, state)
    for name, value in state.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
    assert torch.equal(found["counter"], state["counter"])
    assert torch.equal(found["flags"], state["flags"])


# --- formulas by hand ------------------------------------------------------------------------------------------------


def test_numbers_land_on_the_levels_of_their_channel() -> None:
    """Scale 2 and three levels: 2 is level 3; 1 is 1.5, up with 0.5 added and down with 0.25; -0.5 is -0.75."""
    rows, scales = torch.tensor([[2.0, 1.0, -0.5], [0.0, 0.0, 0.0]]), torch.tensor([2.0, 0.0])
    assert quantised(rows, scales, 3, torch.full((2, 3), 0.5)).tolist() == [[3, 2, -1], [0, 0, 0]]
    assert quantised(rows, scales, 3, torch.full((2, 3), 0.25)).tolist() == [[3, 1, -1], [0, 0, 0]]
    assert quantised(rows, scales, 3, torch.full((2, 3), 0.0)).tolist() == [[3, 1, -1], [0, 0, 0]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_codes_come_back(bits: int) -> None:
    codes = (torch.arange(37) * 7 % 2**bits).to(torch.uint8)
    assert unpacked(packed(codes, bits), bits)[:37].tolist() == codes.tolist()


def test_half_the_largest_error_is_a_step() -> None:
    """Eight bits: |error| <= max|x| / 254 when rounding to the nearest."""
    state = model()
    found = sent([Quantise(8, stochastic=False)], state)
    bound = state["conv"].flatten(1).abs().amax(dim=1) / 254
    error = (found["conv"] - state["conv"]).flatten(1).abs().amax(dim=1)
    assert bool((error <= bound * 1.0001).all())


def test_the_largest_magnitudes_are_kept() -> None:
    state = {"w": torch.tensor([[1.0, -5.0, 2.0, 0.5]])}
    assert sent([TopK(0.5)], state)["w"].tolist() == [[0.0, -5.0, 2.0, 0.0]]
    assert number(1000, 0.0101) == 11


@pytest.mark.parametrize(("count", "share"), [(100, 0.02), (100, 0.9), (70000, 0.001), (65536, 0.01), (9, 1.0)])
def test_places_come_back_however_they_are_written(count: int, share: float) -> None:
    k = number(count, share)
    places = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:k].sort().values
    assert torch.equal(read(written(places, count), count, k), places)


def test_a_matrix_of_low_rank_is_written_without_loss() -> None:
    """One step of subspace iteration finds the range of a matrix of rank 2."""
    draw = torch.Generator().manual_seed(1)
    matrix = torch.randn(12, 2, generator=draw) @ torch.randn(2, 30, generator=draw)
    p, q = factors(matrix, torch.randn(30, 2, generator=draw))
    torch.testing.assert_close(p @ q.T, matrix, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(p.T @ p, torch.eye(2), atol=1e-5, rtol=1e-5)


def test_the_factor_of_the_last_round_is_gone_on_with() -> None:
    """Subspace iteration on the same matrix comes closer with every round, also from a restored state."""
    state = {"w": torch.randn(40, 60, generator=torch.Generator().manual_seed(0))}
    codec, errors = LowRank(3), []
    for turn in range(4):
        if turn == 2:
            saved, codec = codec.state_dict(), LowRank(3)
            codec.load_state_dict(saved)
        errors.append(float((sent([codec], state)["w"] - state["w"]).norm()))
    assert errors[0] > errors[1] > errors[2] > errors[3]


# --- no bias ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [Quantise(8), Quantise(4), Quantise(2), RandomK(0.2, scaled=True)])
def test_what_is_called_unbiased_is_right_on_average(codec: Any) -> None:
    """The mean of n draws lies within five standard errors of every number (4000 draws, 12 numbers)."""
    assert codec.unbiased
    state = {"w": torch.linspace(-1.0, 0.9, 12).reshape(3, 4)}
    pipeline = Pipeline([codec], state)
    draws = torch.stack([pipeline.decode(pipeline.encode(state, 0, turn), 0, turn)["w"] for turn in range(4000)])
    error = (draws.mean(dim=0) - state["w"]).abs()
    assert bool((error <= 5 * draws.std(dim=0) / 4000**0.5 + 1e-6).all())


def test_what_cuts_is_not_called_unbiased() -> None:
    assert not TopK(0.1).unbiased
    assert not RandomK(0.1).unbiased
    assert not Quantise(8, stochastic=False).unbiased
    assert not Half().unbiased


# --- what a peer may send --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codecs", [[], [Quantise(4)], [TopK(0.1)], [TopK(0.1), Quantise(8)], [Half(), Zstd()]])
@pytest.mark.parametrize("change", ["empty", "short", "long", "mask", "noise"])
def test_other_bytes_are_refused(codecs: Codecs, change: str) -> None:
    pipeline = Pipeline(codecs, model())
    data = pipeline.encode(model(), 0)
    changed = {
        "empty": b"",
        "short": data[:-1],
        "long": data + b"\0",
        "mask": bytes([data[0] ^ 0b1000_0001]) + data[1:],
        "noise": b"\xff" * 20,
    }[change]
    with pytest.raises(PayloadError):
        pipeline.decode(changed, 0)


def test_places_out_of_range_or_order_are_refused() -> None:
    for data in ([5, 5], [9, 3], [3, 100]):
        with pytest.raises(ValueError, match="must name 2 ascending places among 50"):
            read(torch.tensor(data, dtype=torch.int16), 50, 2)
    with pytest.raises(ValueError, match="must name 1 ascending places among 7"):
        read(torch.tensor([0b1000_0000], dtype=torch.uint8), 7, 1)


def test_a_payload_that_would_expand_beyond_all_bounds_is_refused_before_it_does() -> None:
    bomb = Zstd().squeeze(b"\0" * 10**8)
    assert len(bomb) < 10**5
    with pytest.raises(PayloadError, match="must expand to at most"):
        Pipeline([Zstd()], model()).decode(bomb, 0)


@pytest.mark.parametrize(
    ("codec", "sentence"),
    [
        (TopK(0.0), "share must be in"),
        (TopK(1.5), "share must be in"),
        (RandomK(-1.0), "share must be in"),
        (LowRank(0), "rank must be at least 1"),
        (Zstd(30), "level must be from 1 to 22"),
    ],
)
def test_wrong_arguments_are_refused(codec: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        codec.validate()
