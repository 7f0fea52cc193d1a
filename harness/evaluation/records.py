"""What stands in ``results.json``, and beside saved patches, of an experiment that has measured."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path

from harness.data import Corpus
from harness.evaluation import conclusions
from harness.evaluation.caveats import too_few
from harness.evaluation.experiment import NOISE_FLOOR, ROUNDING, OutlierExperiment
from harness.evaluation.measurement import Measured, Settings, Subject, measure, rounding, unscored
from harness.evaluation.texts import foreign_metrics, measure_texts
from harness.outliers.variants import (
    ORIGINAL,
    Variant,
    entries_by_module_class,
    parameter_count,
    patch_path,
)
from harness.probes import RESIDUAL, Moments, Observation, Where
from harness.results import schema


def results_of(
    experiment: OutlierExperiment,
    corpus: Corpus | None,
    run: schema.RunRecord,
    activations: Mapping[str, Observation],
    observed: schema.ObserverRecord | None,
) -> schema.Results:
    """What an experiment has measured since its epoch began.

    Args:
        experiment: The experiment, its model and variants still in place.
        corpus: The text of which the whole or a part was scored; None where none was.
        run: How the results were made.
        activations: What flowed through the original, variants and first controls, by name.
        observed: How that was observed.
    """
    subjects = [_subject(variant, experiment) for variant in experiment.variants]
    data = None if corpus is None else _scored(corpus.record, experiment)
    measured: Measured = unscored(subjects)
    few: list[str] = []
    if corpus is not None and data is not None:
        measured, few = _scores(experiment, corpus, data, subjects)
    floor = _with_rounding(measured.noise_floor, experiment)
    generation, problems = _generation(experiment)

    def whole(name: str, record: schema.VariantRecord) -> schema.VariantRecord:
        return dataclasses.replace(
            record,
            generation=generation.get(name),
            activations=extremes(activations[name].moments.get(name, {}))
            if name in activations
            else None,
        )

    variants = {ORIGINAL: measured.original, **measured.variants}
    return schema.Results(
        run=run,
        model=_model(experiment),
        data=data,
        noise_floor=floor,
        observed=observed,
        variants={name: whole(name, record) for name, record in variants.items()},
        controls={name: whole(name, record) for name, record in measured.controls.items()},
        warnings=(
            *experiment.source.remarks,
            *experiment.caveats.sentences,
            *(f"{note}." for note in (corpus.notes if corpus else ())),
            *conclusions.overlaps(experiment.variants, measured.variants),
            *conclusions.near_rounding(measured.variants, floor, experiment.model.dtype),
            *problems,
            *unobserved(activations),
            *few,
        ),
    )


def _with_rounding(
    floor: schema.NoiseFloor | None, experiment: OutlierExperiment
) -> schema.NoiseFloor | None:
    if floor is None:
        return None
    base, nudged = experiment.tallies[ORIGINAL], experiment.tallies[ROUNDING]
    return dataclasses.replace(floor, rounding=rounding(base, nudged, experiment.rounding.entries))


def _scored(whole: schema.DataRecord, experiment: OutlierExperiment) -> schema.DataRecord:
    """The part of the text that was scored."""
    rows = experiment.tallies[ORIGINAL].rows
    if len(rows) == whole.windows:
        return whole
    return dataclasses.replace(
        whole,
        documents=len({row.unit for row in rows}),
        windows=len(rows),
        tokens=sum(row.tokens for row in rows),
        words=None,
        bytes=None,
    )


def _scores(
    experiment: OutlierExperiment, corpus: Corpus, data: schema.DataRecord, subjects: list[Subject]
) -> tuple[Measured, list[str]]:
    """Figures of the scored rows, and sentences about what so few of them cannot tell."""
    settings = Settings(experiment.resamples, experiment.confidence)
    samples = [unit.same_as for unit in corpus.units]
    measured = measure(
        experiment.tallies,
        ORIGINAL,
        NOISE_FLOOR,
        subjects,
        data.words,
        data.bytes,
        settings,
        samples,
    )
    scored = {row.unit for row in experiment.tallies[ORIGINAL].rows}
    units = "blocks of windows" if data.join == "corpus" else "documents"
    texts = [samples[unit] for unit in scored]
    return measured, too_few(texts, measured.variants, experiment.resamples, units)


def extremes(seen: Mapping[Where, Moments]) -> schema.ActivationRecord:
    """The extremes of what was seen while a text was read; None where something was not finite.

    Args:
        seen: Moments by site and part of the positions.
    """
    sites: dict[str, Moments] = {}
    massive: list[int] = []
    for (site, phase, _), moments in seen.items():
        if phase == "prefill":
            sites[site.name] = sites.get(site.name, Moments()) + moments
            massive += [moments.massive] if site.kind == RESIDUAL else []
    largest, where = _largest({name: moments.max_abs for name, moments in sites.items()})
    kurtosis, kurtosis_where = _largest(
        # One that cannot be told, of values that are nearly equal, is not large.
        {n: m.kurtosis for n, m in sites.items() if not math.isnan(m.kurtosis) or math.isnan(m.std)}
    )
    return schema.ActivationRecord(
        max_abs=largest,
        max_abs_site=where,
        max_kurtosis=kurtosis,
        max_kurtosis_site=kurtosis_where,
        massive_count=sum(massive) if massive and largest is not None else None,
    )


def _largest(values: Mapping[str, float]) -> tuple[float | None, str | None]:
    if not values or not all(map(math.isfinite, values.values())):
        return None, None
    where = max(values, key=values.__getitem__)
    return values[where], where


def _generation(
    experiment: OutlierExperiment,
) -> tuple[dict[str, schema.TextRecord], list[str]]:
    texts = experiment.texts
    if not texts[ORIGINAL]:
        return {}, []
    settings = Settings(experiment.resamples, experiment.confidence)
    records = {
        name: measure_texts(written, None if name == ORIGINAL else texts[ORIGINAL], settings)
        for name, written in texts.items()
    }
    decoded = {
        name: {
            number: experiment.decode(continuation.tokens)
            for number, continuation in written.items()
            if not continuation.broken
        }
        for name, written in texts.items()
    }
    figures, problems = foreign_metrics(experiment.metrics, decoded, ORIGINAL)
    return {
        name: dataclasses.replace(record, metrics=figures[name]) for name, record in records.items()
    }, problems


def manifest(experiment: OutlierExperiment, variant: Variant) -> dict[str, object]:
    """What made a variant's patch and for which weights, to be saved beside it."""
    model = dataclasses.asdict(_model(experiment))
    # Patches are for others too: where the folder lay here is not their business.
    if experiment.source.is_local:
        model["pretrained"] = Path(experiment.source.name).name
    return {"model": model, **variant.made_by}


def _model(experiment: OutlierExperiment) -> schema.ModelRecord:
    return schema.ModelRecord(
        pretrained=experiment.source.name,
        revision=experiment.source.revision,
        class_name=type(experiment.model).__name__,
        parameters=parameter_count(experiment.model),
        dtype=str(experiment.model.dtype).removeprefix("torch."),
    )


def _subject(variant: Variant, experiment: OutlierExperiment) -> Subject:
    entries, told = variant.patch.entries, variant.told
    edit = schema.EditRecord(
        criterion=variant.criterion,
        edit=variant.edit,
        entries=entries,
        fraction=entries / parameter_count(experiment.model),
        by_module_class=entries_by_module_class(variant.patch, experiment.model),
        patch=patch_path(variant),
        is_original=not entries,
        **dataclasses.asdict(told),
        share_of_scope=entries / told.in_scope if told.in_scope else None,
    )
    return Subject(variant.name, edit, variant.control_of)


def unobserved(activations: Mapping[str, Observation]) -> list[str]:
    """Sentences about sites of which nothing is known, those of all layers together.

    Args:
        activations: What was seen, by name of the model.
    """
    seen = {
        _in_any_layer(where.site.name)
        for each in activations.values()
        for moments in each.moments.values()
        for where in moments
    }
    watched = {_in_any_layer(site) for each in activations.values() for site in each.sites}
    left_out = {place for each in activations.values() for place in each.unplaced}
    reading = {_in_any_layer(site) for site, phase in left_out if phase == "prefill"}
    continuing = {_in_any_layer(site) for site, _ in left_out} - reading
    reasons = {
        "Not observed, as the output has no place in the text": reading,
        "Not observed while texts are continued, as the output has no place in them": continuing,
        # One expert of many may wait for its turn; what is called in no layer is never called.
        "Not observed, as the model never calls it": watched - seen - reading - continuing,
    }
    return [f"{why}: {', '.join(sorted(sites))}." for why, sites in reasons.items() if sites]


def _in_any_layer(site: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", site)
