"""What jsonargparse says, in one line with the key as the user typed it."""

from __future__ import annotations

import pytest

from harness.cli.given import values_given, values_in
from harness.cli.refusal import in_full, refusal
from harness.errors import ConfigError

NESTED = """Parser key "model.variants":
  Does not validate against any of the Union subtypes
  Subtypes: [dict[str, harness.outliers.variants.VariantConfig | None], <class 'NoneType'>]
  Errors:
    - Parser key "criterion":
        Does not validate against any of the Union subtypes
        Subtypes: [<class 'harness.outliers.criteria.Criterion'>, <class 'NoneType'>]
        Errors:
          - Parser key "depth":
              Expected a <class 'int'>. Got value: abc
          - Expected a <class 'NoneType'>
        Given value type: <class 'jsonargparse._namespace.Namespace'>
        Given value: Namespace(depth='abc')
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>
  Given value: {'criterion.depth': 'abc'}"""
SAID = "depth='abc': Expected a int"


def test_names_the_variant_that_jsonargparse_leaves_out() -> None:
    given = values_given(["--model.variants.zeroed.criterion.depth", "abc"])
    assert refusal(NESTED, list(given)) == f"model.variants.zeroed.criterion.{SAID}"


def test_finds_the_key_in_a_file_too() -> None:
    criterion = {"class_path": "mine.Own", "init_args": {"depth": "abc"}}
    tree = {"model": {"variants": {"a.b": {"criterion": criterion}, "c": {"edit": "Zero"}}}}
    assert refusal(NESTED, list(values_in("", tree))) == f"model.variants.a.b.criterion.{SAID}"


def test_of_several_keys_it_is_the_one_with_the_value() -> None:
    given = [(f"model.variants.{name}.criterion.depth", name) for name in ("x", "abc", "y")]
    assert refusal(NESTED, given).startswith("model.variants.abc.criterion.depth='abc': ")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (NESTED, "Expected a int"),
        (
            "unrecognized arguments: foo",
            "argument='foo': belongs to no option of this command; options begin with --",
        ),
        ("argument --data.name: expected one argument", None),
        ("something\n  else", "something else"),
        ("x" * 3 + " y" * 500, f"xxx{' y' * 97}..."),
    ],
)
def test_without_a_trace_of_the_key_it_gives_what_it_knows(
    message: str, expected: str | None
) -> None:
    assert refusal(message, []) == (expected or message)


def test_what_is_in_a_list_is_told_under_the_key_of_the_list() -> None:
    message = (
        'Parser key "trainer.callbacks":\n  Does not validate against any of the Union subtypes\n'
        "  Errors:\n    - Option 'monitr' is not accepted\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'list'>\n  Given value: [...]"
    )
    line = refusal(message, [("trainer.max_steps", 3), ("trainer.callbacks", "[{monitr: x}]")])
    assert line == "trainer.callbacks='[{monitr: x}]': Option 'monitr' is not accepted"


TRIED = """Parser key "{key}":
  Does not validate against any of the Union subtypes
  Subtypes: [...]
  Errors:
    - {first}
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: x"""


@pytest.mark.parametrize(
    ("key", "first", "words"),
    [
        ("seed_everything", "Expected a <class 'bool'>", "Expected a bool or null"),
        ("data.join", "Expected a typing.Literal['a', 'b']", "Expected one of ['a', 'b'] or null"),
        (
            "model.variants.x.edit.value",
            "Problem with given class_path 'Zero':\n        Option 'value' is not accepted",
            "Option 'value' is not accepted; Zero takes none, Epsilon takes value, Clip takes none",
        ),
    ],
)
def test_all_that_is_accepted_is_told(key: str, first: str, words: str) -> None:
    message = TRIED.format(key=key, first=first)
    assert refusal(message, [(key, "x")]) == f"{key}='x': {words}"


def test_what_a_class_refuses_gets_its_full_key() -> None:
    criteria = {"a": 3.0, "b.c": -1.0}
    variants = {
        name: {"criterion": {"class_path": "SigmaThreshold", "init_args": {"sigmas": sigmas}}}
        for name, sigmas in criteria.items()
    }
    error = ConfigError("sigmas", -1.0, "must be positive")
    wrapped = ValueError("Does not validate")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        expected = "model.variants.b.c.criterion.sigmas=-1.0: must be positive"
        assert str(in_full(raised, variants)) == expected
    assert in_full(error, {}) is error
    own = ConfigError("activations.sigmas", -1.0, "must be positive")
    assert in_full(own, variants) is own
    assert in_full(ValueError("another"), variants) is None
