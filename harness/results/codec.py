"""Dataclasses as plain values and back, and ``results.json`` as text."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from harness.errors import ConfigError
from harness.results.schema import SCHEMA_VERSION, Results

T = TypeVar("T")


def to_json(results: Results) -> str:
    """Returns the text of ``results.json``.

    Keys stand in the order in which they are declared here, floats with every digit they need to be
    read back the same, and what is not finite becomes ``null``.
    """
    # JSON has no other numbers than finite ones, and Python's reader names those it would add.
    finite = json.loads(json.dumps(encode(results)), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def from_json(text: str) -> Results:
    """Returns the results that ``to_json`` wrote; keys that this version does not know are ignored.

    Raises:
        ConfigError: The text is no JSON object, is of another schema version, lacks a key, or has a
            value of the wrong type; the key is the path to it, for example ``data.words``.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError("results.json", text[:40], f"is not JSON: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        reason = f"these results are of another version; this harness reads {SCHEMA_VERSION}"
        raise ConfigError("schema_version", version, reason)
    return decode(Results, content, "")


def encode(value: object) -> Any:
    """Makes dicts of dataclasses and lists of tuples, at any depth; all else stays as it is.

    Args:
        value: A dataclass, or a list, tuple or dict of what may hold some.
    """
    if dataclasses.is_dataclass(value):
        return {_key(f): encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Mapping[str, Any], key: str) -> T:
    """Builds the dataclass that ``encode`` was given; keys that it does not have are ignored.

    Args:
        kind: The dataclass. A whole number may stand for a float of it.
        value: What ``encode`` made.
        key: Path to it, with which those in errors begin; may be empty.

    Raises:
        ConfigError: A value does not fit its annotation, or a key without a default is missing.
    """
    annotations = typing.get_type_hints(kind)
    arguments = {}
    for f in dataclasses.fields(typing.cast("Any", kind)):
        path = f"{key}.{_key(f)}" if key else _key(f)
        if _key(f) in value:
            arguments[f.name] = _built(annotations[f.name], value[_key(f)], path)
        elif f.default is f.default_factory is dataclasses.MISSING:
            raise ConfigError(path, None, f"is missing, and {kind.__name__} needs it")
    return kind(**arguments)


def _built(kind: Any, value: Any, key: str) -> Any:
    """What an annotation asks for."""
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        fitting = (option for option in arguments if typing.get_origin(option) is type(value))
        return _built(next(fitting, arguments[0]), value, key)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return decode(typing.cast("type", kind), value, key)
    origin = typing.get_origin(kind) or kind
    if origin is dict and isinstance(value, dict):
        return {name: _built(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if origin is list and isinstance(value, list):
        return [_built(arguments[0], item, key) for item in value]
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) == len(value):
            return tuple(_built(*pair, key) for pair in zip(kinds, value, strict=True))
    elif kind is float and type(value) is int:
        return float(value)
    elif type(value) is kind:
        return value
    expected = kind.__name__ if isinstance(kind, type) else kind
    raise ConfigError(key, value, f"must be of type {expected}")


def _key(f: dataclasses.Field[Any]) -> str:
    return str(f.metadata.get("key", f.name))
