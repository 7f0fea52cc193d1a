"""The list of figures against the schema."""

from __future__ import annotations

import math
import typing

import pytest

from harness.results import figures
from harness.results.figures import TAGGED, Figure
from harness.results.numbers import hidden
from harness.results.schema import VariantRecord
from tests.report.made import make_results

DECLARED = list(
    dict.fromkeys(
        figure
        for part in vars(figures).values()
        if isinstance(part, tuple)
        for figure in part
        if isinstance(figure, Figure)
    )
)


@pytest.mark.parametrize("figure", DECLARED, ids=lambda figure: figure.name)
def test_every_figure_names_what_results_hold(figure: Figure) -> None:
    """A path that is not in the schema would show a dash for ever."""
    parts = typing.get_type_hints(VariantRecord)
    for path in figure.paths:
        part, name, *key = path.split(".")
        (record, _) = typing.get_args(parts[part])
        kind = typing.get_type_hints(record)[name]
        assert not key or typing.get_origin(kind) is dict
    assert figure.of_original is None or figure.of_original[0] in parts


def test_every_figure_is_shown_somewhere_and_only_once() -> None:
    assert set(TAGGED) == {figure for figure in DECLARED if figure.tag}
    assert all(figure.tag for figure in DECLARED if figure.show is hidden)
    assert len({figure.tag for figure in TAGGED}) == len(TAGGED)
    assert len({figure.name for figure in DECLARED}) == len(DECLARED)


def test_a_tag_is_the_key_of_its_figure() -> None:
    assert [figure.tag for figure in TAGGED] == [f.paths[0].split(".")[-1] for f in TAGGED]


def test_a_figure_as_text_and_as_a_number() -> None:
    variants = make_results().variants
    change = Figure("Δ", str, ("versus_original.delta_nll",), "", of_original=("likelihood", 0.5))
    assert change.cell(variants["sigma5"]) == "0.0371"
    assert change.value(variants["sigma5"]) == 0.0371
    # What the original is to itself has no place in a table.
    assert change.cell(variants["original"]) == "–"
    assert change.value(variants["original"]) == 0.5
    assert math.isnan(change.value(VariantRecord()))
    weights = Figure("weights", str, ("edit.entries",), "")
    assert weights.value(variants["sigma5"]) == 1243.0
    assert type(weights.value(variants["sigma5"])) is float
    assert math.isnan(weights.value(variants["original"]))
