"""From a measurement to results: the same measurement gives the same file, wherever it arose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.evaluation.design import Design
from harness.evaluation.effects import effects, noise_floor
from harness.evaluation.flow import extremes, unobserved
from harness.evaluation.measurement import Totals
from harness.evaluation.remarks import near_rounding, near_ties, overlaps, too_few
from harness.evaluation.step import Outcome
from harness.evaluation.texts import text_records
from harness.results.schema import (
    ORIGINAL,
    DataRecord,
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
    data, floor, few = None, None, list[str]()
    records = {ORIGINAL: VariantRecord()}
    records |= {subject.name: VariantRecord(edit=subject.edit) for subject in design.reported}
    if design.corpus is not None and totals.scored:
        tallies = {name: outcome.tally for name, outcome in totals.scored.items()}
        original = tallies[ORIGINAL]
        data = _scored(design.corpus.record, original)
        samples = [unit.same_as for unit in design.corpus.units]
        how = design.resampling
        records = effects(tallies, design.reported, data.words, data.bytes, how, samples)
        floor = noise_floor(tallies, design.subjects)
        different = [samples[unit] for unit in set(original.rows.unit.tolist())]
        units = "blocks of windows" if data.join == "corpus" else "documents"
        few = too_few(different, _variants(records, design), how.resamples, units)
    texts = {name: outcome.texts for name, outcome in totals.continued.items()}
    written, problems = text_records(texts, design)
    # What flows while text is written counts for a run that reads nothing else.
    flow = totals.continued if data is None else totals.scored
    for name in records:
        moments = flow[name].moments if name in flow else {}
        seen = extremes(moments) if moments else None
        records[name] = replace(records[name], generation=written.get(name), activations=seen)
    edited = _variants(records, design)
    return Results(
        run=replace(run, partial=_is_partial(totals, design)),
        model=design.model,
        data=data,
        noise_floor=floor,
        observed=design.observed,
        variants={ORIGINAL: records[ORIGINAL], **edited},
        controls={n: r for n, r in records.items() if n != ORIGINAL and n not in edited},
        warnings=(
            *design.remarks,
            *totals.notes,
            *(f"{note}." for note in (design.corpus.notes if design.corpus else ())),
            *overlaps(design.reported, edited),
            *near_rounding(edited, floor, design.model.dtype),
            *near_ties(texts, design.model.dtype),
            *problems,
            *unobserved(
                [site.name for site in design.sites],
                [*totals.scored.values(), *totals.continued.values()],
            ),
            *few,
        ),
    )


def _variants(records: Mapping[str, VariantRecord], design: Design) -> dict[str, VariantRecord]:
    """The records of the variants, without the original's and those of controls."""
    return {s.name: records[s.name] for s in design.reported if s.control_of is None}


def _scored(whole: DataRecord, original: Tally) -> DataRecord:
    """The part of the text that was scored."""
    if len(original.rows) == whole.windows:
        return whole
    return replace(
        whole,
        documents=len(set(original.rows.unit.tolist())),
        windows=len(original.rows),
        tokens=original.tokens,
        words=None,
        bytes=None,
    )


def _is_partial(totals: Totals, design: Design) -> bool:
    windows = len(totals.scored.get(ORIGINAL, Outcome()).tally.rows)
    texts = len(totals.continued.get(ORIGINAL, Outcome()).texts)
    missed = design.corpus is not None and (
        windows < design.corpus.record.windows or not design.corpus.is_whole
    )
    return texts < len(design.prompts) or missed
