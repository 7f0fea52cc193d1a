"""What a value must be, by the type of its key."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import yaml

from harness.cli.keys import alternatives, parameters
from harness.cli.reading import SUFFIXES, load
from harness.errors import ConfigError

Fault = tuple[object, str]
"""What in a value is wrong, and what would be accepted in its place."""

Accepts = Callable[[Any, Any], bool]
"""Takes a value as it was given, and what that stands for."""


def _number(kind: type, accepts: Callable[[float], bool]) -> Accepts:
    """Accepts numbers in a range, in what Python reads as one: `1e3` is no whole number."""

    def accepts_it(value: Any, _: Any) -> bool:
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            return False
        exact = isinstance(value, str) or (number == value and not isinstance(value, bool))
        return exact and accepts(number)

    return accepts_it


_PLAIN: dict[str, tuple[Accepts, str]] = {
    "bool": (lambda _, read: isinstance(read, bool), "true or false"),
    "int": (lambda _, read: type(read) is int, "a whole number"),
    "float": (lambda _, read: type(read) in (int, float), "a number"),
    "str": (lambda value, _: isinstance(value, str), "text, in quotes"),
    "None": (lambda _, read: read is None, "null"),
    "dict": (
        lambda value, read: isinstance(read, dict) or str(value).endswith(SUFFIXES),
        "a mapping, in quotes: '{key: value}'",
    ),
    "PositiveInt": (_number(int, lambda number: number > 0), "a whole number from 1 on"),
    "NonNegativeInt": (_number(int, lambda number: number >= 0), "a whole number from 0 on"),
    "PositiveFloat": (_number(float, lambda number: number > 0), "a number above 0"),
    "NonNegativeFloat": (_number(float, lambda number: number >= 0), "a number from 0 on"),
    "ClosedUnitInterval": (_number(float, lambda number: 0 <= number <= 1), "a number from 0 to 1"),
    "OpenUnitInterval": (
        _number(float, lambda number: 0 < number < 1),
        "a number above 0 and below 1",
    ),
}


def check_value(key: str, value: object, hint: ast.expr) -> None:
    """Refuses a value that is not of its type; of a type that is not known here any value is.

    Args:
        key: The dotted key.
        value: As text where it stands on the command line, else as YAML reads it.
        hint: The type.

    Raises:
        ConfigError: With what in the value is wrong, and what would be accepted.
    """
    if fault := _fault(value, hint):
        raise ConfigError(key, fault[0], f"must be {fault[1]}")


def _fault(value: object, hint: ast.expr) -> Fault | None:
    faults = [next(_faults(value, option), None) for option in alternatives(hint)]
    found = [fault for fault in faults if fault]
    if len(found) < len(faults):
        return None
    within = [fault for fault in found if fault[0] is not value]
    words = [says for _, says in found]
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    return within[0] if within else (value, ", or ".join(words))


def _faults(value: object, hint: ast.expr) -> Iterator[Fault]:
    """What is wrong by one type that is no union."""
    name, inner = parameters(hint)
    read = _read(value)
    if name in _PLAIN:
        accepts, says = _PLAIN[name]
        if not accepts(value, read):
            yield value, says
    elif name == "Literal":
        choices = [ast.literal_eval(choice) for choice in inner]
        if value not in choices and read not in choices:
            yield value, f"one of {', '.join(map(str, choices))}"
    elif name in ("list", "Iterable", "tuple"):
        length = len(inner) if name == "tuple" else None
        if not isinstance(read, list) or length not in (None, len(read)):
            many = 'a list, in quotes: \'["first", "second"]\''
            yield value, f"a list of {length}, in quotes: '[first, ...]'" if length else many
        else:
            hints = inner if length else inner * len(read)
            yield from filter(None, map(_fault, read, hints))


def _read(value: object) -> object:
    """What text on the command line stands for."""
    if isinstance(value, str) and value:
        with suppress(yaml.YAMLError):
            return load(value)
    return value
