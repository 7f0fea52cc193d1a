"""What jsonargparse says, in one line with the key as the user typed it."""

from __future__ import annotations

import pytest

from harness.refusal import arguments_given, flatten, one_line

NESTED = """Parser key "model.variants":
  Problem with given class_path 'harness.variants.VariantConfig':
    Parser key "criterion":
      Does not validate against any of the Union subtypes
      Subtypes: [<class 'harness.outliers.criteria.Criterion'>, <class 'NoneType'>]
      Errors:
        - Problem with given class_path 'harness.outliers.AbsoluteThreshold':
            Parser key "threshold":
              Expected a <class 'float'>. Got value: abc
        - Expected a <class 'NoneType'>
      Given value type: <class 'jsonargparse._namespace.Namespace'>
      Given value: Namespace(threshold='abc')"""


def test_names_the_variant_that_jsonargparse_leaves_out() -> None:
    given = dict(arguments_given(["--model.variants.zeroed.criterion.threshold", "abc"]))
    expected = "model.variants.zeroed.criterion.threshold='abc': must be a number"
    assert one_line(NESTED, given) == expected


def test_finds_the_key_in_a_file_too() -> None:
    criterion = {"class_path": "AbsoluteThreshold", "init_args": {"threshold": "abc"}}
    tree = {"model": {"variants": {"other": {"criterion": criterion}}}}
    expected = "model.variants.other.criterion.threshold='abc': must be a number"
    assert one_line(NESTED, dict(flatten(tree))) == expected


def test_without_a_trace_of_the_key_it_gives_what_it_knows() -> None:
    assert one_line(NESTED, {}) == "model.variants.criterion.threshold='abc': must be a number"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Parser key \"data.batch_size\":\n  Expected a <class 'int'>. Got value: x",
            "data.batch_size='x': must be a whole number",
        ),
        (
            "Parser key \"data.join\":\n  Expected a typing.Literal['document', 'corpus']. "
            "Got value: foo",
            "data.join='foo': must be one of document, corpus",
        ),
        (
            'Parser key "model.confidence":\n  Not of type OpenUnitInterval: 1.5 does not conform '
            "to restriction v>0 and v<1",
            "model.confidence='1.5': must be above 0 and below 1",
        ),
        (
            'Parser key "controls":\n  Not of type NonNegativeInt: invalid literal for int() with '
            "base 10: '1.5'",
            "controls='1.5': must be a whole number from 0 on",
        ),
        ("unrecognized arguments: --model.foo 3", "model.foo: no such key; --help lists the keys"),
        ("something\n  else", "something else"),
    ],
)
def test_known_forms(message: str, expected: str) -> None:
    assert one_line(message, {}) == expected


def test_an_unknown_class_lists_the_known_ones() -> None:
    message = NESTED[: NESTED.index("        - Problem")] + (
        "        - Expected a dot import path string: Foo\n        - Expected a <class 'NoneType'>"
    )
    line = one_line(message, {"model.variants.zeroed.criterion": "Foo"})
    assert line.startswith("model.variants.zeroed.criterion='Foo': no such class; accepted: ")
    assert all(name in line for name in ("AbsoluteThreshold", "SigmaThreshold", "TopFraction"))


def test_options_with_an_equals_sign_count() -> None:
    assert dict(arguments_given(["fit", "--a.b=1", "--c", "2", "--d"])) == {
        "a.b": "1",
        "c": "2",
        "d": "",
    }
