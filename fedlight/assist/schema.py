"""A JSON schema of configs, for editors that complete and check YAML as it is typed."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union

from lightning.pytorch import Trainer

from fedlight.data import FederatedDataModule
from fedlight.federation import Federation
from fedlight.plugins import Plugin
from fedlight.plugins.discovery import registered
from fedlight.tasks import FederatedModule
from fedlight.trainer import OWNED

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
"""What editors know best."""

_PLAIN: Mapping[Any, str] = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
_NOT_SET = frozenset({"self", "seed", "trainer", "config", "console"})
_INTERNAL = frozenset(
    {"DataElsewhere", "Specimens", "ConsoleTracker", "Fanout", "JsonlTracker", "LoggerTracker", "StatusTracker"}
)  # made by a run
_ARRAYS = (list, tuple, set, frozenset, Sequence, Collection, Iterable)


def schema() -> Schema:
    """Returns the schema of everything that a config may hold, with the plugins that are registered."""
    load = {"type": "array", "items": {"type": "string"}, "description": "Python files with plugins of your own."}
    groups: Schema = {
        "seed_everything": {"type": ["integer", "boolean"], "description": "The run's seed."},
        "load": load,
        "load+": load,
        "model": of_class(FederatedModule),
        "data": of_class(FederatedDataModule),
        "federation": _object(Federation, _NOT_SET),
        "trainer": _object(Trainer, OWNED),
        "ckpt_path": {"type": ["string", "null"]},
    }
    title = "fedlight config"
    return {"$schema": DRAFT, "title": title, "type": "object", "properties": groups, "additionalProperties": False}


def of_type(hint: Any) -> Schema:
    """Returns the schema of a type hint; what is unknown may be anything.

    >>> of_type(int | None)
    {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}
    >>> of_type(Sequence[Literal["a", "b"]])
    {'type': 'array', 'items': {'enum': ['a', 'b']}}
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(each) for each in inner]}
    if origin in _ARRAYS or hint in _ARRAYS:
        items = of_type(inner[0]) if inner and (len(inner) == 1 or origin is tuple) else {}
        return {"type": "array", **({"items": items} if items else {})}
    if origin in (dict, Mapping) or hint is dict:
        return {"type": "object"}
    return of_class(hint) if inspect.isclass(hint) and choices(hint) else {}


def of_class(base: type) -> Schema:
    """Returns the schema of a setting that names a class: a bare name, or ``class_path`` with ``init_args``."""
    known = choices(base)
    names = [name for cls in known for name in _names(cls)]
    other = {"type": "object", "properties": {"class_path": {"type": "string", "not": {"enum": names}}}}
    return {
        "oneOf": [
            # other strings are classes by their import path
            {"type": "string", "examples": [cls.__name__ for cls in known]},
            *(_class(cls) for cls in known),
            {**other, "required": ["class_path"]},
            # a config that is laid over another one
            {"type": "object", "properties": {"init_args": {"type": "object"}}, "additionalProperties": False},
        ]
    }


def choices(base: type) -> list[type]:
    """Returns the classes that a setting of a type may name, sorted by name."""
    if issubclass(base, Plugin):
        return [info.cls for info in registered() if issubclass(info.cls, base)]
    ours: Iterable[type] = (
        cls for cls in _below(base) if cls.__module__.startswith("fedlight") and not inspect.isabstract(cls)
    )
    ours = (cls for cls in ours if cls.__name__ not in _INTERNAL and not cls.__name__.startswith("_"))
    return sorted(set(ours), key=lambda cls: cls.__name__) if base.__module__.startswith("fedlight") else []


def _below(base: type) -> Iterator[type]:
    yield base
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        yield from _below(subclass)


def _names(cls: type) -> list[str]:
    package = cls.__module__.rpartition(".")[0]
    return [cls.__name__, f"{cls.__module__}.{cls.__name__}", f"{package}.{cls.__name__}"]


def _class(cls: type) -> Schema:
    return {
        "type": "object",
        "properties": {
            "class_path": {"enum": _names(cls), "description": _first_line(cls)},
            "init_args": _object(cls, {"self"}),
        },
        "required": ["class_path"],
        "additionalProperties": False,
    }


def _object(cls: type, without: Collection[str]) -> Schema:
    """Returns the schema of a class's arguments; lists have a second name, with a plus, that appends."""
    properties: Schema = {}
    documented, hints = _documented(cls), _hints(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in without or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        properties[name] = _described(of_type(hints.get(name, Any)), documented.get(name), parameter.default)
        if "array" in str(properties[name]):
            properties[f"{name}+"] = {"description": f"Appended to {name}."}
            properties[f"{name}+"] |= {"anyOf": [properties[name], properties[name].get("items", {})]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _described(found: Schema, text: str | None, default: Any) -> Schema:
    plain = default is None or isinstance(default, bool | int | float | str)
    return found | ({"description": text} if text else {}) | ({"default": default} if plain else {})


def _hints(cls: type) -> Mapping[str, Any]:
    constructor: Callable[..., Any] = cls.__init__  # type: ignore[misc]
    try:
        return typing.get_type_hints(constructor)
    except (NameError, TypeError):  # a name that is there for the type checker only
        return {}


def _documented(cls: type) -> dict[str, str]:
    """Returns what a docstring in Google style says about arguments."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(cls) or "", re.MULTILINE | re.DOTALL)
    found = re.findall(r"^ {4}(\w+)(?: \([^)]*\))?: (.*?)(?=^ {4}\w|\Z)", section[1] if section else "", re.M | re.S)
    return {name: " ".join(text.split()) for name, text in found}


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or cls.__name__).splitlines()[0]
