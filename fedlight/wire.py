"""Messages as bytes for the way between server and site, without pickle.

A message is a JSON header and the tensors that it names, in safetensors format: 8 bytes with the length of the
safetensors header, that header, in whose ``__metadata__`` is ours, then the tensors end to end. Tensors are numbered
in the order of their names in our header, so names may hold any character and a state keeps its order.

What comes from elsewhere is not trusted. ``decode`` looks at the header alone before it makes any tensor: that it is
complete and not larger than agreed, that every tensor lies where it says, without gaps, and is as large as its dtype
and shape make it, and that parameters and buffers have the names, dtypes and shapes that are expected. Whatever does
not fit is refused in one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from fedlight.state import State
from fedlight.update import Broadcast, Evaluation, Exchange, RoundContext, SiteFailure, Update

VERSION = 1
LIMIT = 2 << 30
"""Bytes that a message may have unless said otherwise."""

_HEADER_LIMIT = 16 << 20
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

_MODELS = ("full", "delta", "kept", "other")
_LARGEST = 2**64

Message = Broadcast | Update | Exchange | tuple[Evaluation, ...] | SiteFailure


class WireError(ValueError):
    """Bytes that are no message, or not the one that is expected; one clause without the sender's name."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a message may hold.

    Attributes:
        params: Tensors with the names, dtypes and shapes that parameters may have; None for any.
        buffers: The same for running statistics.
        limit: Bytes that a message may have.
    """

    params: Mapping[str, Tensor] | None = None
    buffers: Mapping[str, Tensor] | None = None
    limit: int = LIMIT


def encode(message: Message) -> bytes:
    """Encodes a message.

    Raises:
        TypeError: If it holds something that is neither a tensor nor a plain value.
    """
    if isinstance(message, SiteFailure):
        return _pack("failure", asdict(message))
    if isinstance(message, tuple):
        return _pack("evaluations", {"evaluations": [_plain_evaluation(each) for each in message]})
    if isinstance(message, Exchange):
        return _pack_exchange(message)
    if isinstance(message, Broadcast):
        about = {"context": _plain_context(message.context), "model": message.model, "model_version": message.version}
        return _pack("broadcast", about, message)
    about = {name: getattr(message, name) for name in ("site", "round", "num_samples")}
    return _pack("update", {**about, "metrics": dict(message.metrics)}, message)


def decode(data: bytes, expected: Expected | None = None) -> Message:
    """Decodes what ``encode`` returned.

    Args:
        data: The message; not trusted.
        expected: What it may hold.

    Raises:
        WireError: If it is not a message or holds anything else.
    """
    expected = expected or Expected()
    header, entries = _header(data, expected.limit)
    kind = _field(header, "message", str)
    if kind not in _READERS:
        raise WireError(f"it is of an unknown kind, {kind[:40]!r}")
    parts = _Parts(header, entries, data, expected)
    try:
        return _READERS[kind](header, parts)
    except (TypeError, KeyError, AttributeError) as error:
        raise WireError(f"its header is not that of a message of kind {kind} ({error})") from error


# --- writing ---------------------------------------------------------------------------------------------------------


def _pack(kind: str, about: Mapping[str, Any], tensors: Broadcast | Update | None = None) -> bytes:
    header: dict[str, Any] = {"version": VERSION, "message": kind, **about}
    values: list[Tensor] = []
    if tensors is not None:
        shared = {plugin: dict(part) for plugin, part in tensors.shared.items()}
        header["params"], header["buffers"] = list(tensors.params), list(tensors.buffers)
        header["shared"] = {plugin: list(part) for plugin, part in shared.items()}
        values += [*tensors.params.values(), *tensors.buffers.values()]
        values += [value for part in shared.values() for value in part.values()]
        header["payload"] = bool(tensors.payload)
        values += [torch.frombuffer(bytearray(tensors.payload), dtype=torch.uint8)] if tensors.payload else []
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(f"only tensors can be sent as state, got {type(value).__name__}")
    return save(_separate(values), metadata={"fedlight": json.dumps(header)})


def _pack_exchange(message: Exchange) -> bytes:
    names = {kind: list(parts) for kind, parts in message.content.items()}
    header = {"version": VERSION, "message": "exchange", "site": message.site, "round": message.round, "content": names}
    values = [
        torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
        for parts in message.content.values()
        for data in parts.values()
    ]
    return save(_separate(values), metadata={"fedlight": json.dumps(header)})


def _separate(values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Numbers tensors and lays each out by itself; only what shares memory or is no whole block is copied."""
    seen: set[int] = set()
    result = {}
    for index, value in enumerate(values):
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != value.numel() * value.element_size():
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        result[str(index)] = value
    return result


def _plain_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    cases = [dict(row) for row in evaluation.cases]
    return asdict(replace(evaluation, metrics=dict(evaluation.metrics), cases=())) | {"cases": cases}


def _plain_context(context: RoundContext) -> dict[str, Any]:
    plain = {name: getattr(context, name) for name in ("round", "rounds", "seed", "rate")}
    evaluations = {site: _plain_evaluation(each) for site, each in context.evaluations.items()}
    return plain | {
        "sites": list(context.sites),
        "cohort": list(context.cohort),
        "num_samples": dict(context.num_samples),
        "weights": dict(context.weights),
        "evaluations": evaluations,
    }


# --- reading: the header ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: torch.dtype
    shape: tuple[int, ...]


def _header(data: bytes, limit: int) -> tuple[dict[str, Any], list[_Entry]]:
    """Reads and checks the header of a message, and nothing else of it."""
    if len(data) > limit:
        raise WireError(f"it has {len(data)} bytes, more than the {limit} that are agreed")
    length = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 0 <= length <= min(len(data) - 8, _HEADER_LIMIT):
        raise WireError("it is cut off, or no message at all")
    try:
        tensors = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_unique)
        ours = tensors.pop("__metadata__")
        header = json.loads(ours.pop("fedlight"), object_pairs_hook=_unique)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WireError("its header cannot be read") from error
    if ours or not isinstance(header, dict):
        raise WireError("its header is not that of a message")
    if header.get("version") != VERSION:
        raise WireError(f"it is of version {header.get('version')!r} of the format, expected {VERSION}")
    return header, _entries(tensors, len(data) - 8 - length)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name comes twice")
    return names


def _entries(tensors: Mapping[str, Any], size: int) -> list[_Entry]:
    """Checks that tensors are numbered, lie end to end and fill what follows the header."""
    spans = []
    entries = []
    for index in range(len(tensors)):
        entry = tensors.get(str(index))
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise WireError(f"tensor {index} of {len(tensors)} is not described")
        made, (begin, end) = _entry(index, entry), _span(index, entry)
        if end - begin != math.prod(made.shape) * made.dtype.itemsize:
            raise WireError(f"tensor {index} has {end - begin} bytes, not those of its shape")
        entries.append(made)
        spans.append((begin, end))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise WireError("its tensors do not lie end to end")
        at = end
    if at != size:
        raise WireError(f"it holds {size} bytes of tensors, its header says {at}")
    return entries


def _entry(index: int, entry: Mapping[str, Any]) -> _Entry:
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise WireError(f"tensor {index} has the unknown dtype {str(dtype)[:20]!r}")
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        raise WireError(f"tensor {index} has no shape")
    return _Entry(_DTYPES[dtype], tuple(shape))


def _span(index: int, entry: Mapping[str, Any]) -> tuple[int, int]:
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(each) is int for each in offsets):
        raise WireError(f"tensor {index} does not say where it lies")
    begin, end = offsets
    if not 0 <= begin <= end:
        raise WireError(f"tensor {index} does not say where it lies")
    return begin, end


# --- reading: what it says -------------------------------------------------------------------------------------------


@dataclass
class _Parts:
    """The states of a message, made only after every name, dtype and shape was found to be as expected."""

    header: Mapping[str, Any]
    entries: Sequence[_Entry]
    data: bytes
    expected: Expected
    params: State = field(default_factory=dict)
    buffers: State = field(default_factory=dict)
    shared: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    payload: bytes = b""

    def read(self) -> _Parts:
        params, buffers = _names(self.header, "params"), _names(self.header, "buffers")
        shared = _field(self.header, "shared", dict)
        keys = [(plugin, key) for plugin in shared for key in _names(shared, plugin)]
        written = _field(self.header, "payload", bool)  # by codecs, in bytes
        if len(params) + len(buffers) + len(keys) + written != len(self.entries):
            raise WireError("it does not name every tensor once")
        self._check(params, self.expected.params, 0)
        self._check(buffers, self.expected.buffers, len(params))
        values = self._tensors()
        self.params = {name: next(values) for name in params}
        self.buffers = {name: next(values) for name in buffers}
        for plugin, key in keys:
            self.shared.setdefault(plugin, {})[key] = next(values)
        if written:
            self.payload = _payload(next(values))
        return self

    def _check(self, names: Sequence[str], like: Mapping[str, Tensor] | None, first: int) -> None:
        for index, name in enumerate(names if like is not None else (), start=first):
            known = (like or {}).get(name)
            if known is None:
                raise WireError(f"{name[:100]} is not a tensor of this network")
            found = self.entries[index]
            if (found.dtype, found.shape) != (known.dtype, tuple(known.shape)):
                raise WireError(
                    f"{name} has dtype {found.dtype} and shape {found.shape}, "
                    f"expected {known.dtype} and {tuple(known.shape)}"
                )

    def _tensors(self) -> Any:
        try:
            loaded = load(self.data)
        except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
            raise WireError(f"its tensors cannot be read: {error}") from error
        return iter([loaded[str(index)] for index in range(len(self.entries))])

    def blobs(self, keys: Sequence[tuple[str, str]]) -> dict[str, dict[str, bytes]]:
        """Returns what was sent as bytes, by two names each."""
        if len(keys) != len(self.entries):
            raise WireError("it does not name every tensor once")
        if not all(entry.dtype == torch.uint8 and len(entry.shape) == 1 for entry in self.entries):
            raise WireError("it holds tensors where there are bytes")
        found: dict[str, dict[str, bytes]] = {}
        for (kind, site), value in zip(keys, self._tensors(), strict=True):
            found.setdefault(kind, {})[site] = value.numpy().tobytes()
        return found

    def none(self) -> None:
        if self.entries:
            raise WireError("it holds tensors where there are none")


def _payload(value: Tensor) -> bytes:
    if value.dtype != torch.uint8 or value.dim() != 1:
        raise WireError("its payload must be a row of bytes")
    return value.numpy().tobytes()


def _broadcast(header: Mapping[str, Any], parts: _Parts) -> Broadcast:
    plain = _field(header, "context", dict)
    context = RoundContext(
        round=_field(plain, "round", int),
        rounds=_field(plain, "rounds", int),
        seed=_field(plain, "seed", int),
        sites=tuple(_names(plain, "sites")),
        cohort=tuple(_names(plain, "cohort")),
        num_samples=_numbers(plain, "num_samples"),
        weights=_numbers(plain, "weights"),
        evaluations={site: _evaluation(each) for site, each in _field(plain, "evaluations", dict).items()},
        rate=_field(plain, "rate", float),
    )
    model: Any = _field(header, "model", str)
    if model not in _MODELS:
        raise WireError(f"its model comes in an unknown way, {model[:40]!r}")
    version = _field(header, "model_version", int)
    read = parts.read()
    return Broadcast(context, read.params, read.buffers, read.shared, read.payload, version, model)


def _update(header: Mapping[str, Any], parts: _Parts) -> Update:
    about = {name: _field(header, name, kind) for name, kind in (("site", str), ("round", int), ("num_samples", int))}
    metrics = _numbers(header, "metrics")
    read = parts.read()
    return Update(
        **about,
        params=read.params,
        buffers=read.buffers,
        metrics=metrics,
        shared=read.shared,
        payload=read.payload,
    )


def _exchange(header: Mapping[str, Any], parts: _Parts) -> Exchange:
    content = _field(header, "content", dict)
    keys = [(kind, site) for kind in content for site in _names(content, kind)]
    found = parts.blobs(keys)
    full = {kind: found.get(kind, {}) for kind in content}
    return Exchange(_field(header, "site", str), _field(header, "round", int), full)


def _evaluations(header: Mapping[str, Any], parts: _Parts) -> tuple[Evaluation, ...]:
    parts.none()
    return tuple(_evaluation(each) for each in _field(header, "evaluations", list))


def _failure(header: Mapping[str, Any], parts: _Parts) -> SiteFailure:
    parts.none()
    names = ("site", "phase", "kind", "reason")
    return SiteFailure(round=_field(header, "round", int), **{name: _field(header, name, str) for name in names})


def _evaluation(plain: Any) -> Evaluation:
    if not isinstance(plain, dict):
        raise WireError("an evaluation has no fields")
    rows = _field(plain, "cases", list)
    for row in rows:
        if not isinstance(row, dict) or not all(value is None or _is_plain(value) for value in row.values()):
            raise WireError("the scores of a case are not plain values")
    return Evaluation(
        site=_field(plain, "site", str),
        round=_field(plain, "round", int),
        num_cases=_field(plain, "num_cases", int),
        metrics=_numbers(plain, "metrics"),
        cases=tuple(rows),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any], _Parts], Message]] = {
    "broadcast": _broadcast,
    "update": _update,
    "exchange": _exchange,
    "evaluations": _evaluations,
    "failure": _failure,
}


def _is_plain(value: object) -> bool:
    return type(value) in (bool, int, float, str)


def _field(plain: Mapping[str, Any], name: str, kind: type) -> Any:
    value = plain.get(name)
    if type(value) is not kind:
        raise WireError(f"{name} must be {kind.__name__} in its header, got {type(value).__name__}")
    if type(value) is int and not -_LARGEST < value < _LARGEST:
        raise WireError(f"{name} must be below {_LARGEST} in its header")
    return value


def _names(plain: Mapping[str, Any], name: str) -> list[str]:
    values: list[str] = _field(plain, name, list)
    if not all(type(value) is str for value in values) or len(set(values)) < len(values):
        raise WireError(f"{name[:100]} must be names in its header, each once")
    return values


def _numbers(plain: Mapping[str, Any], name: str) -> dict[str, Any]:
    values: dict[str, Any] = _field(plain, name, dict)
    if not all(type(value) is float or (type(value) is int and abs(value) < _LARGEST) for value in values.values()):
        raise WireError(f"{name} must be numbers in its header, whole ones below {_LARGEST}")
    return values
