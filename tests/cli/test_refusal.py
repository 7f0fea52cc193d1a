"""What jsonargparse says, in one line with the key as the user typed it."""

from __future__ import annotations

import builtins
import typing
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any

import pytest
from lightning.pytorch import Trainer

from harness.cli.given import values_given
from harness.cli.reading import flatten
from harness.cli.refusal import one_line
from harness.data import TextDataModule
from harness.evaluation.experiment import OutlierExperiment
from harness.evaluation.training import Training
from harness.outliers import Criterion, Edit, Scope
from harness.outliers.variants import VariantConfig
from harness.probes import Sites
from harness.tracking import ActivationStatistics, RunRecorder
from harness.writing.settings import Generation

NESTED = """Parser key "model.variants":
  Problem with given class_path 'harness.outliers.variants.VariantConfig':
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
    given = dict(values_given(["--model.variants.zeroed.criterion.threshold", "abc"]))
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
            "model.confidence='1.5': must be a number above 0 and below 1",
        ),
        (
            'Parser key "model.other":\n  Not of type OtherNumber: 1.5 does not conform '
            "to restriction v>=2 and v<3",
            "model.other='1.5': must be at least 2 and below 3",
        ),
        (
            'Parser key "controls":\n  Not of type NonNegativeInt: invalid literal for int() with '
            "base 10: '1.5'",
            "controls='1.5': must be a whole number from 0 on",
        ),
        ("unrecognized arguments: --model.foo 3", "model.foo: no such key; --help lists the keys"),
        (
            "unrecognized arguments: foo",
            "argument='foo': belongs to no option; options begin with --",
        ),
        ("argument --model.dtype: expected one argument", "model.dtype: give a value"),
        (
            'Parser key "betas":\n  Expected a tuple with 2 elements. Got value: [1]',
            "betas=[1]: must be a list of 2, in quotes: '[first, ...]'",
        ),
        (
            "Parser key \"data.prompts\":\n  Expected a <class 'str'>. Got value: None",
            "data.prompts=None: must be text, in quotes",
        ),
        ("something\n  else", "something else"),
    ],
)
def test_known_forms(message: str, expected: str) -> None:
    assert one_line(message, {}) == expected


def test_options_with_an_equals_sign_count() -> None:
    assert dict(values_given(["fit", "--a.b=1", "--c", "2", "--d"])) == {
        "a.b": "1",
        "c": "2",
        "d": "",
    }


def union(key: str, value: str, *tried: str) -> str:
    errors = "".join(f"    - Expected a {kind}\n" for kind in tried)
    return (
        f'Parser key "{key}":\n  Does not validate against any of the Union subtypes\n'
        f"  Subtypes: [<class 'typing.Any'>, <class 'NoneType'>]\n  Errors:\n{errors}"
        f"  Given value type: <class 'str'>\n  Given value: {value}"
    )


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (("<class 'float'>", "<class 'NoneType'>"), "a number, or null"),
        (("<class 'int'>", "<class 'float'>", "<class 'NoneType'>"), "a number, or null"),
        (("<class 'bool'>", "<class 'int'>"), "true or false, or a whole number"),
        (("typing.Literal['a', 'b']", "<class 'NoneType'>"), "one of a, b, or null"),
        (("path but x either not accessible or invalid",), "the import path of a class"),
        (("<class 'collections.abc.Iterable'>",), "a list, in quotes"),
    ],
)
def test_one_of_several_types(tried: tuple[str, ...], expected: str) -> None:
    line = one_line(union("some.key", "x", *tried), {})
    assert line.startswith(f"some.key='x': must be {expected}")


PROBLEM = "Parser key \"model.it\":\n  Problem with given class_path 'my.Class'"


@pytest.mark.parametrize(
    "message",
    [
        union("model.it", "my.Class", "dot import path string: my.Class"),
        f"{PROBLEM}:\n    No module named 'my'",
        f"{PROBLEM}:\n    module 'my' has no attribute 'Class'",
    ],
)
def test_a_class_that_is_not_there(message: str) -> None:
    expected = "model.it='my.Class': no such class; give its import path, such as package.module."
    assert one_line(message, {"model.it": "my.Class"}).startswith(expected)


def test_the_innermost_of_types_within_types_counts() -> None:
    inner = union("patch", "[1]", "<class 'str'>", "<class 'NoneType'>")
    outer = union("model.variants", "NestedArg(key='new.patch', val=[1])", "<class 'NoneType'>")
    message = outer.replace("  Errors:\n", f"  Errors:\n{inner}\n")
    expected = "model.variants.new.patch=[1]: must be text, in quotes, or null"
    assert one_line(message, {"model.variants.new.patch": "[1]"}) == expected


@pytest.mark.parametrize(
    "message",
    [
        "Option 'treshold' is not accepted",
        "Class does not accept option 'treshold'",
        "unrecognized arguments: --m.v.x.criterion.treshold 3",
    ],
)
def test_an_unknown_argument_of_a_class_lists_what_each_takes(message: str) -> None:
    line = one_line(message, {"m.v.x.criterion.treshold": "3"})
    assert line == (
        "m.v.x.criterion.treshold: no such key; AbsoluteThreshold takes threshold, "
        "SigmaThreshold takes sigmas, TopFraction takes fraction"
    )


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--g.metrics=[1]", "g.metrics=1: must be text, in quotes"),
        ("--g={metrics: 1}", "g.metrics=1: must be text, in quotes"),
        ("--g.metrics={a: 1}", "g.metrics.a=1: must be text, in quotes"),
        ("--g.metrics=[2]", "metrics=1: must be text, in quotes"),
        ("--g.metrics={", "metrics=1: must be text, in quotes"),
        ("--g.metrics=1", "g.metrics=1: must be text, in quotes"),
    ],
)
def test_the_key_of_what_stands_in_a_list_or_a_mapping(argument: str, expected: str) -> None:
    message = "Parser key \"metrics\":\n  Expected a <class 'str'>. Got value: 1"
    assert one_line(message, dict(values_given([argument]))) == expected


def test_the_key_of_a_mapping_that_is_none() -> None:
    message = "Parser key \"inner\":\n  Expected a <class 'dict'>. Got value: {a:3}"
    line = one_line(message, dict(values_given(["--outer.inner={a:3}"])))
    assert line.startswith("outer.inner={a:3}: must be a mapping, in quotes")


def test_an_unknown_key_in_a_mapping() -> None:
    given = dict(values_given(["--g", "{metrics: x}"]))
    expected = "g.metrics: no such key; --help lists the keys"
    assert one_line("Option 'metrics' is not accepted", given) == expected


def leaves(hint: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return
    if isinstance(origin or hint, type) and origin is not UnionType:
        yield origin or hint
    for part in inner:
        yield from leaves(part)


SETTINGS = (
    OutlierExperiment,
    TextDataModule,
    RunRecorder,
    ActivationStatistics,
    Sites,
    Generation,
    Training,
    VariantConfig,
    Scope,
    Trainer,
)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda cls: cls.__name__)
def test_every_type_that_a_key_has_is_told_in_words(settings: type) -> None:
    init = settings.__init__
    hints = typing.get_type_hints(getattr(init, "__wrapped__", init))
    names = {
        leaf.__name__
        for name, hint in hints.items()
        if name != "return"
        for leaf in leaves(hint)
        if leaf not in SETTINGS
        and leaf not in (Any, NoneType, Criterion, Edit)
        # Of these jsonargparse says that it expects an import path.
        and not leaf.__module__.startswith("lightning.")
    }
    # Any text will do for them.
    for name in names - {"str", "Path", "timedelta"}:
        message = f"Parser key \"a\":\n  Expected a <class 'somewhere.{name}'>. Got value: x"
        if not hasattr(builtins, name):
            message = f"Parser key \"a\":\n  Not of type {name}: could not convert: 'x'"
        assert "of type" not in one_line(message, {}), name
