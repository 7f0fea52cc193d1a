"""From totals to results: a pure function, which tells a part of a run as such."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.evaluation.design import NOISE_FLOOR, Design
from harness.evaluation.measurement import Measurement, Totals
from harness.evaluation.step import StepResult
from harness.evaluation.summary import summarise
from harness.results.codec import to_json
from harness.results.schema import Results
from harness.scoring import WindowRow
from tests.evaluation.test_measurement import (
    NAMES,
    READING,
    RECORD,
    WINDOWS,
    made_design,
    made_steps,
)
from tests.evaluation.test_step import exact


def totals_of(steps: list[StepResult], tmp_path: Path) -> Totals:
    measurement = Measurement(tmp_path / "steps")
    for step in steps:
        measurement.add(step)
    totals = measurement.totals()
    measurement.close()
    return totals


@pytest.fixture
def whole(tmp_path: Path) -> Totals:
    return totals_of(made_steps(), tmp_path)


def of(totals: Totals, **design: object) -> Results:
    return summarise(totals, replace(made_design(), **design), RECORD)


def per_token(rows: list[WindowRow], column: str) -> float:
    tokens = sum(row.tokens for row in rows)
    return math.fsum(getattr(row, column) for row in rows) / tokens


def test_the_same_totals_give_equal_results_and_stay_what_they_are(whole: Totals) -> None:
    before, design = exact(whole), made_design()
    texts = repr(design)
    first = summarise(whole, design, RECORD)
    written = to_json(first)
    assert exact(whole) == before
    second = summarise(whole, design, RECORD)
    assert second == first
    assert to_json(second) == written == to_json(first)
    assert repr(design) == texts
    assert RECORD.partial is False


def test_results_hold_the_figures_of_the_rows(whole: Totals) -> None:
    results = of(whole)
    rows = {name: outcome.tally.rows for name, outcome in whole.scored.items()}
    assert list(results.variants) == ["original", "sigma5"]
    assert list(results.controls) == NAMES[2:]
    base = per_token(rows["original"], "nll")
    for name, record in (results.variants | results.controls).items():
        assert record.likelihood is not None
        nll = per_token(rows[name], "nll")
        assert record.likelihood.nll == pytest.approx(nll, rel=1e-12)
        assert record.likelihood.perplexity == pytest.approx(math.exp(nll), rel=1e-10)
        assert (record.versus_original is None) is (name == "original")
        if record.versus_original is not None:
            assert record.versus_original.delta_nll == pytest.approx(nll - base, rel=1e-9)
            kl = per_token(rows[name], "kl")
            assert record.versus_original.kl_mean == pytest.approx(kl, rel=1e-12)
    against = results.variants["sigma5"].versus_control
    assert against is not None
    assert against.controls == 2
    assert results.noise_floor is not None
    # Both are of the windows that the floor covers, which are not all.
    covered = {row.window for row in rows[NOISE_FLOOR]}
    assert len(covered) == 8 * WINDOWS < READING * WINDOWS
    same = [row for row in rows["original"] if row.window in covered]
    change = per_token(rows[NOISE_FLOOR], "nll") * sum(row.tokens for row in rows[NOISE_FLOOR])
    change -= math.fsum(row.nll for row in same)
    tokens = sum(row.tokens for row in rows[NOISE_FLOOR])
    assert results.noise_floor.delta_nll == pytest.approx(change / tokens, rel=1e-9)
    assert results.noise_floor.rounding is None
    assert results.run == RECORD
    assert results.warnings[0] == "a remark"


def test_texts_go_to_those_who_wrote(whole: Totals) -> None:
    results = of(whole)
    records = results.variants | results.controls
    wrote = [name for name, record in records.items() if record.generation is not None]
    assert wrote == NAMES[:3]
    for name in wrote:
        texts = whole.continued[name].texts.values()
        record = records[name].generation
        assert record is not None
        assert record.prompts == 8
        assert record.broken == sum(text.broken for text in texts)
        assert record.tokens == sum(len(text.tokens) for text in texts)


def test_choices_that_rounding_decides_are_told(whole: Totals) -> None:
    for outcome in whole.continued.values():
        for prompt, text in outcome.texts.items():
            outcome.texts[prompt] = text._replace(choices=10, near=int(prompt == 1))
    texts = [text for outcome in whole.continued.values() for text in outcome.texts.values()]
    near = sum(text.near for text in texts)
    assert near > 0
    told = [line for line in of(whole).warnings if "may decide" in line]
    assert [line.partition(", so near")[0] for line in told] == [
        f"Rounding in float32 may decide {near} of {10 * len(texts)} choices in the texts"
    ]


def test_a_part_of_a_run_is_told_as_such(tmp_path: Path) -> None:
    steps = made_steps()
    assert made_design().corpus is not None
    for kept in (steps[:-1], steps[1:], steps[:READING]):
        assert of(totals_of(kept, tmp_path)).run.partial
    part = [step for step in steps if step.number not in (2, 5)]
    results, data = of(totals_of(part, tmp_path)), made_design().corpus.record
    assert results.run.partial
    assert results.data is not None
    rows = [row for step in part for row in step.original.tally.rows]
    assert results.data.windows == len(rows) == data.windows - 2 * WINDOWS
    assert results.data.tokens == sum(row.tokens for row in rows)
    assert results.data.documents == len({row.unit for row in rows}) < data.documents
    assert results.data.words is results.data.bytes is None
    assert of(totals_of(steps, tmp_path)).data == data


def test_a_run_that_scores_nothing_tells_of_its_texts(tmp_path: Path) -> None:
    totals = totals_of(made_steps()[READING:], tmp_path)
    results = of(totals, corpus=None)
    assert results.data is results.noise_floor is None
    assert not results.run.partial
    assert list(results.variants) == ["original", "sigma5"]
    assert list(results.controls) == NAMES[2:]
    for record in results.variants.values():
        assert record.likelihood is record.versus_original is None
        assert record.generation is not None
        assert record.activations is not None  # of what it wrote, since it read nothing else
    assert results.controls["sigma5-control-1"].generation is None


def test_flow_is_that_of_reading_where_something_was_read(whole: Totals, tmp_path: Path) -> None:
    read = totals_of(made_steps()[:READING], tmp_path)
    expected = of(read, prompts=()).variants
    for name, record in of(whole).variants.items():
        assert record.activations == expected[name].activations


def test_a_design_without_floors_has_none(whole: Totals) -> None:
    del whole.scored[NOISE_FLOOR]
    design: Design = made_design()
    subjects = design.reported
    results = of(whole, subjects=subjects)
    assert results.noise_floor is None or results.noise_floor.delta_nll is None
    assert results.variants == of(whole, subjects=subjects).variants
