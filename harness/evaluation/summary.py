"""From a measurement to results: the same measurement gives the same file, wherever it arose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.evaluation.design import NOISE_FLOOR, ROUNDING, Design
from harness.evaluation.effects import effects, noise_floor, rounding
from harness.evaluation.flow import extremes, unobserved
from harness.evaluation.measurement import Totals
from harness.evaluation.remarks import near_rounding, overlaps, too_few
from harness.evaluation.step import Outcome
from harness.evaluation.texts import text_records
from harness.results.schema import (
    ORIGINAL,
    DataRecord,
    NoiseFloor,
    Results,
    RunRecord,
    VariantRecord,
)
from harness.scoring import Tally


def summarise(totals: Totals, design: Design, run: RunRecord) -> Results:
    """What was measured, in figures.

    Args:
        totals: What was measured, of all processes: `Measurement.totals`.
        design: What was measured, and how.
        run: How the results were made; whether they are partial is found here.
    """
    tallies = {name: outcome.tally for name, outcome in totals.scored.items()}
    data = None if design.corpus is None else _scored(design.corpus.record, tallies[ORIGINAL])
    if data is None:
        records = {s.name: VariantRecord(edit=s.edit) for s in design.reported}
        records = {ORIGINAL: VariantRecord(), **records}
    else:
        samples = [unit.same_as for unit in design.corpus.units] if design.corpus else []
        records = effects(
            tallies, design.reported, data.words, data.bytes, design.resampling, samples
        )
    floor = None if data is None else _floor(tallies, design)
    texts, problems = text_records({n: o.texts for n, o in totals.continued.items()}, design)
    # What flows while text is written counts for a run that reads nothing else.
    flow = totals.continued if data is None else totals.scored
    for name in records:
        moments = flow[name].moments if name in flow else {}
        seen = extremes(moments) if moments else None
        records[name] = replace(records[name], generation=texts.get(name), activations=seen)
    controls = {s.name for s in design.reported if s.control_of is not None}
    variants = {name: record for name, record in records.items() if name not in controls}
    edited = {name: record for name, record in variants.items() if name != ORIGINAL}
    return Results(
        run=replace(run, partial=_is_partial(totals, design)),
        model=design.model,
        data=data,
        noise_floor=floor,
        observed=design.observed,
        variants=variants,
        controls={name: record for name, record in records.items() if name in controls},
        warnings=(
            *design.remarks,
            *totals.notes,
            *(f"{note}." for note in (design.corpus.notes if design.corpus else ())),
            *overlaps(design.reported, edited),
            *near_rounding(edited, floor, design.model.dtype),
            *problems,
            *unobserved(
                [site.name for site in design.sites],
                [*totals.scored.values(), *totals.continued.values()],
            ),
            *(_too_few(tallies[ORIGINAL], edited, design, data) if data else ()),
        ),
    )


def _scored(whole: DataRecord, original: Tally) -> DataRecord:
    """The part of the text that was scored."""
    if len(original.rows) == whole.windows:
        return whole
    return replace(
        whole,
        documents=len({row.unit for row in original.rows}),
        windows=len(original.rows),
        tokens=original.tokens,
        words=None,
        bytes=None,
    )


def _floor(tallies: Mapping[str, Tally], design: Design) -> NoiseFloor:
    base, rounded = tallies[ORIGINAL], design.rounding()
    entries = rounded.edit.entries if rounded is not None and rounded.edit is not None else 0
    moved = rounding(base, tallies.get(ROUNDING, Tally()), entries)
    return noise_floor(base, tallies[NOISE_FLOOR], moved)


def _is_partial(totals: Totals, design: Design) -> bool:
    windows = len(totals.scored.get(ORIGINAL, Outcome()).tally.rows)
    texts = len(totals.continued.get(ORIGINAL, Outcome()).texts)
    all_windows = 0 if design.corpus is None else design.corpus.record.windows
    return texts < len(design.prompts) or windows < all_windows


def _too_few(
    original: Tally, variants: Mapping[str, VariantRecord], design: Design, data: DataRecord
) -> list[str]:
    """Says what cannot be told of so few units of resampling."""
    assert design.corpus is not None
    units = "blocks of windows" if data.join == "corpus" else "documents"
    texts = [design.corpus.units[unit].same_as for unit in {row.unit for row in original.rows}]
    return too_few(texts, variants, design.resampling.resamples, units)
