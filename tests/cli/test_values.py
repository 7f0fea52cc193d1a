"""A value is of its type as jsonargparse would have it, or refused in words."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any

import jsonargparse.typing
import pytest
from lightning.pytorch import Trainer

from harness.cli.commands import Parser, RefusedError
from harness.cli.keys import Key, alternatives, known_keys, parameters
from harness.cli.values import _PLAIN, check_value
from harness.errors import ConfigError

LIST = 'a list, in quotes: \'["first", "second"]\''


def told(hint: str, value: object) -> str | None:
    """What is said of a value; None where it is accepted."""
    try:
        check_value("a.b", value, ast.parse(hint, mode="eval").body)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        ("int", "x", "'x': must be a whole number"),
        ("float | None", "x", "'x': must be a number, or null"),
        ("Optional[Union[int, float]]", "x", "'x': must be a number, or null"),
        ("bool | int", "x", "'x': must be true or false, or a whole number"),
        ("Literal['a', 'b']", "c", "'c': must be one of a, b"),
        ("str", None, "None: must be text, in quotes"),
        ("PositiveInt", "0", "'0': must be a whole number from 1 on"),
        ("OpenUnitInterval", "1.5", "'1.5': must be a number above 0 and below 1"),
        ("list[str]", "x", f"'x': must be {LIST}"),
        ("list[str]", "[a, 1]", "1: must be text, in quotes"),
        ("str | list[str]", ["a", 1], "1: must be text, in quotes"),
        ("tuple[float, float]", "[1]", "'[1]': must be a list of 2, in quotes: '[first, ...]'"),
        ("tuple[float, float]", "[1, x]", "'x': must be a number"),
        ("dict[str, Any]", "3", "'3': must be a mapping, in quotes: '{key: value}'"),
    ],
)
def test_what_would_be_accepted_is_told(hint: str, value: object, says: str) -> None:
    assert told(hint, value) == f"a.b={says}"


RANGES = [name for name in _PLAIN if hasattr(jsonargparse.typing, name)]
TYPES = ["bool", "int", "float", "str", "str | None", "list[int]", "int | float | None"]
TEXTS = ["x", "true", "null", "", "0", "1", "-1", "7", "1.0", "0.5", "1e-3", "1e3", "0x10", "1_0"]
TEXTS += [
    ".5",
    ".inf",
    "-.inf",
    "nan",
    ".nan",
    "yes",
    "'1'",
    "[1]",
    "[]",
    "[x]",
    "{a: 1}",
    "{",
    "[",
]


@pytest.mark.parametrize("hint", [*RANGES, *TYPES])
@pytest.mark.parametrize("text", TEXTS)
def test_of_one_value_it_says_what_jsonargparse_says(hint: str, text: str) -> None:
    parser = Parser(parser_mode="harness")
    names = vars(jsonargparse.typing) | vars(typing)
    parser.add_argument("--a", type=eval(hint, dict(names)))
    try:
        parser.parse_args([f"--a={text}"])
        accepted = True
    except RefusedError:
        accepted = False
    assert (told(hint, text) is None) == accepted


def hints(keys: typing.Mapping[str, Key], prefix: str) -> Iterator[tuple[str, ast.expr]]:
    for name, key in keys.items():
        yield f"{prefix}.{name}", key.hint
        yield from hints(key.below, f"{prefix}.{name}")


def names_in(hint: ast.expr) -> Iterator[str]:
    for option in alternatives(hint):
        name, inner = parameters(option)
        yield name
        for part in inner if name not in ("Literal", "dict") else ():
            yield from names_in(part)


@pytest.mark.parametrize("group", ["run", "model", "data", "activations"])
def test_the_type_of_every_key_of_ours_is_known(group: str) -> None:
    settings = {"VariantConfig", "Scope", "Sites", "Training", "Generation", "Criterion", "Edit"}
    known = {*_PLAIN, *settings, "Literal", "list", "tuple"}
    for key, hint in hints(known_keys().at(group).below, group):
        assert set(names_in(hint)) <= known, key


def test_the_types_of_the_trainer_are_those_that_it_has() -> None:
    init = Trainer.__init__
    types = typing.get_type_hints(getattr(init, "__wrapped__", init))
    simple = {"bool": bool, "int": int, "float": float, "str": str, "None": type(None)}
    for name, key in known_keys().at("trainer").below.items():
        read = {simple[n] for n in names_in(key.hint) if n in simple}
        assert read <= set(leaves(types[name])), name


def leaves(hint: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    if isinstance(hint, UnionType) or typing.get_origin(hint) is not None:
        for part in typing.get_args(hint):
            yield from leaves(part)
    else:
        yield hint
