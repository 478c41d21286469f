"""What crosses between server and site as bytes: nothing is lost, nothing hostile gets in."""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedlight.update import Broadcast, Evaluation, Exchange, RoundContext, SiteFailure, Update
from fedlight.wire import Expected, Message, WireError, decode, encode

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.contiguous().reshape(-1).view(torch.uint8).tolist()
        == second.contiguous().reshape(-1).view(torch.uint8).tolist()
    )


def update(**changes: Any) -> Update:
    arguments: dict[str, Any] = {
        "site": "Krankenhaus Köln/北京 🏥",
        "round": 3,
        "num_samples": 17,
        "params": {"z.weight": torch.randn(2, 3), "a.bias": torch.randn(3)},
        "buffers": {"n": torch.tensor(7)},
        "metrics": {"train_loss": 0.1 + 0.2, "steps": 4.0},
        "shared": {"MixStyle-2": {"enc/1": torch.randn(4), "": torch.zeros(0, 5)}, "Empty": {}},
    }
    return Update(**{**arguments, **changes})


def context() -> RoundContext:
    sites = ("é", "b")
    seen = Evaluation("é", 2, 5, {"dice": 1 / 3})
    return RoundContext(3, 9, 2**40, sites, sites[:1], {"é": 5, "b": 6}, {"é": 5.0, "b": 6.5}, {"é": seen})


def test_an_update_comes_back_as_it_was_in_the_order_it_was() -> None:
    sent = update()
    got = decode(encode(sent))
    assert isinstance(got, Update)
    assert replace(got, params={}, buffers={}, shared={}) == replace(sent, params={}, buffers={}, shared={})
    assert list(got.params) == ["z.weight", "a.bias"]
    assert all(same_bits(got.params[name], value) for name, value in sent.params.items())
    assert same_bits(got.buffers["n"], sent.buffers["n"])
    assert list(got.shared["MixStyle-2"]) == ["enc/1", ""]
    assert all(same_bits(got.shared["MixStyle-2"][key], value) for key, value in sent.shared["MixStyle-2"].items())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3)], ids=str)
def test_every_dtype_and_shape_comes_back_with_the_same_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    value = (torch.rand(shape) * 3).to(dtype)
    got = decode(encode(update(params={"w": value}, shared={})))
    assert isinstance(got, Update)
    assert same_bits(got.params["w"], value)


def test_what_codecs_wrote_comes_back() -> None:
    sent = update(params={}, payload=b"\0\1\xff" * 5)
    got = decode(encode(sent))
    assert isinstance(got, Update)
    assert (got.payload, got.params) == (sent.payload, {})
    kept = Broadcast(context(), {}, {}, payload=b"", version=7, model="kept")
    back = decode(encode(kept))
    assert isinstance(back, Broadcast)
    assert (back.version, back.model, back.payload) == (7, "kept", b"")
    with pytest.raises(WireError, match="its model comes in an unknown way"):
        decode(encode(replace(kept, model="pickled")))  # type: ignore[arg-type]


def test_a_broadcast_comes_back_as_it_was() -> None:
    sent = Broadcast(context(), {"w": torch.tensor([float("nan"), -0.0])}, {}, {"P": {"k": torch.arange(3)}})
    got = decode(encode(sent))
    assert isinstance(got, Broadcast)
    assert got.context == sent.context
    assert same_bits(got.params["w"], sent.params["w"])
    assert same_bits(got.shared["P"]["k"], torch.arange(3))


@pytest.mark.parametrize(
    "message",
    [
        (),
        (Evaluation("ü", 1, 2, {"dice": 0.1}, ({"case": "x", "dice": 0.5, "hd95": None, "ok": True},)),),
        SiteFailure("ß", 4, "fit", "late", "no answer within 5 s"),
        Exchange("ß", 4, {"own_masks": {"é/b": b"\0\1", "": b""}, "mask_keys": {}}),
    ],
)
def test_evaluations_failures_and_exchanges_come_back_as_they_were(message: Message) -> None:
    assert decode(encode(message)) == message


def test_scores_that_are_not_a_number_come_back_as_such() -> None:
    (got,) = decode(encode((Evaluation("a", 1, 2, {"hd95": float("nan"), "x": float("inf")}),)))  # type: ignore[misc]
    assert isinstance(got, Evaluation)
    assert got.metrics["hd95"] != got.metrics["hd95"]
    assert got.metrics["x"] == float("inf")


def test_tensors_that_share_memory_or_are_views_come_back_as_values() -> None:
    base = torch.arange(6.0).reshape(2, 3)
    got = decode(encode(update(params={"a": base, "b": base, "row": base[0], "turned": base.T}, shared={})))
    assert isinstance(got, Update)
    assert same_bits(got.params["b"], base)
    assert same_bits(got.params["row"], base[0])
    assert same_bits(got.params["turned"], base.T)


@pytest.mark.parametrize("changes", [{"metrics": {"train_loss": 10**400}}, {"num_samples": 10**400}])
def test_whole_numbers_that_nothing_can_be_computed_with_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="below 18446744073709551616"):
        decode(encode(update(**changes)))


def test_what_is_no_plain_value_is_not_sent() -> None:
    with pytest.raises(TypeError):
        encode(update(metrics={"x": object()}))
    with pytest.raises(TypeError, match="only tensors can be sent as state, got float"):
        encode(update(params={"w": 1.0}))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_every_truncation_and_every_appended_byte_is_refused() -> None:
    data = encode(update())
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode(data[:length])
    with pytest.raises(WireError, match="bytes of tensors, its header says"):
        decode(data + b"\0")


def test_an_oversized_message_is_refused_unread() -> None:
    with pytest.raises(WireError, match="more than the 100 that are agreed"):
        decode(b"\0" * 101, Expected(limit=100))


def test_no_byte_that_is_changed_gets_past_with_anything_but_a_refusal_or_a_message() -> None:
    data = bytearray(encode(update(params={"w": torch.ones(2)}, shared={})))
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 0x15
        with contextlib.suppress(WireError):
            assert decode(bytes(changed)) is not None


LIKE = {"w": torch.zeros(2)}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"x": torch.zeros(2)}, "x is not a tensor of this network"),
        ({"w": torch.zeros(3)}, r"w has dtype torch.float32 and shape \(3,\), expected torch.float32 and \(2,\)"),
        ({"w": torch.zeros(2).half()}, r"w has dtype torch.float16 and shape \(2,\)"),
    ],
)
def test_what_is_not_of_the_network_is_refused_before_any_tensor_is_made(
    params: dict[str, torch.Tensor], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(update(params=params, buffers={}, shared={}))
    monkeypatch.setattr("fedlight.wire.load", lambda data: pytest.fail("tensors were made"))
    with pytest.raises(WireError, match=reason):
        decode(data, Expected(LIKE, {}))


def test_buffers_are_checked_like_parameters() -> None:
    with pytest.raises(WireError, match="n is not a tensor of this network"):
        decode(encode(update(params=LIKE, shared={})), Expected(LIKE, {}))


def hostile(header: Any, tensors: dict[str, Any] | None = None, body: bytes = b"") -> bytes:
    ours = header if isinstance(header, str) else json.dumps({"version": 1, **header})
    text = json.dumps({"__metadata__": {"fedlight": ours}, **(tensors or {})}).encode()
    return struct.pack("<Q", len(text)) + text + body


GOOD: dict[str, Any] = {
    "message": "update", "site": "a", "round": 1, "num_samples": 1, "metrics": {}, "params": ["w"], "buffers": [],
    "shared": {}, "payload": False,
}  # fmt: skip


STEP = {"message": "exchange", "site": "a", "round": 1}


def tensor(**changes: Any) -> dict[str, Any]:
    return {"0": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_the_message_that_the_hostile_ones_are_made_of_is_read() -> None:
    assert isinstance(decode(hostile(GOOD, tensor(), b"\0" * 8)), Update)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 64,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        hostile("[1, 2]"),
        hostile("no json"),
        hostile("[" * 100_000),
        hostile({**GOOD, "version": 2}, tensor(), b"\0" * 8),
        hostile({**GOOD, "message": "command"}, tensor(), b"\0" * 8),
        hostile({**GOOD, "message": ["update"]}, tensor(), b"\0" * 8),
        hostile({**GOOD, "params": ["w", "w"]}, tensor(), b"\0" * 8),
        hostile({**GOOD, "params": []}, tensor(), b"\0" * 8),
        hostile({**GOOD, "params": {"w": 0}}, tensor(), b"\0" * 8),
        hostile({**GOOD, "num_samples": "5"}, tensor(), b"\0" * 8),
        hostile({**GOOD, "num_samples": True}, tensor(), b"\0" * 8),
        hostile({**GOOD, "metrics": {"x": "nan"}}, tensor(), b"\0" * 8),
        hostile({**GOOD, "shared": {"P": [3]}}, tensor(), b"\0" * 8),
        hostile({**GOOD, "payload": True}, tensor(), b"\0" * 8),
        hostile({**GOOD, "params": [], "payload": True}, tensor(), b"\0" * 8),
        hostile(GOOD, tensor(dtype="PICKLE"), b"\0" * 8),
        hostile(GOOD, tensor(shape=[2**40 - 1, 2**40 - 1]), b"\0" * 8),
        hostile(GOOD, tensor(shape=[-2]), b"\0" * 8),
        hostile(GOOD, tensor(shape=[3]), b"\0" * 8),
        hostile(GOOD, tensor(shape="2"), b"\0" * 8),
        hostile(GOOD, tensor(data_offsets=[4, 12]), b"\0" * 12),
        hostile(GOOD, tensor(data_offsets=[8, 0]), b"\0" * 8),
        hostile(GOOD, tensor(data_offsets=[0, 8, 8]), b"\0" * 8),
        hostile(GOOD, tensor(extra=1), b"\0" * 8),
        hostile(GOOD, {"w": tensor()["0"]}, b"\0" * 8),
        hostile(GOOD, tensor(), b"\0" * 4),
        hostile({"message": "failure", "site": "a", "round": 1, "phase": "fit", "kind": 3}),
        hostile({"message": "evaluations", "evaluations": [{"site": "a"}]}),
        hostile({"message": "evaluations", "evaluations": [3]}),
        hostile({"message": "broadcast", "context": {}}),
        hostile({**STEP, "content": {"vector": ["a"]}}, tensor(), b"\0" * 8),
        hostile({**STEP, "content": {"vector": ["a"]}}),
        hostile({**STEP, "content": {"vector": ["a", "a"]}}),
        hostile({**STEP, "content": {"vector": 3}}),
        hostile({**STEP, "content": ["vector"]}),
        hostile({**STEP, "content": {}, "round": "1"}),
    ],
)
def test_hostile_bytes_are_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(WireError) as refusal:
        decode(data)
    assert str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300
