"""What stands in ``results.json``, and beside saved patches, of an experiment that has measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness import results
from harness.data import Corpus
from harness.experiment import NOISE_FLOOR, OutlierExperiment
from harness.measurement import Settings, Subject, measure
from harness.variants import (
    ORIGINAL,
    Variant,
    entries_by_module_class,
    parameter_count,
    patch_path,
)


def results_of(experiment: OutlierExperiment, corpus: Corpus, run: results.Run) -> results.Results:
    """What an experiment has measured since its epoch began.

    Args:
        experiment: The experiment, its model and variants still in place.
        corpus: The text that was scored, the whole of it or a part.
        run: How the results were made.
    """
    rows = experiment.tallies[ORIGINAL].rows
    units = len({row.unit for row in rows})
    data = corpus.record
    if len(rows) < data.windows:
        data = dataclasses.replace(
            data,
            documents=units,
            windows=len(rows),
            tokens=sum(row.tokens for row in rows),
            words=None,
            bytes=None,
        )
    measured = measure(
        experiment.tallies,
        ORIGINAL,
        NOISE_FLOOR,
        [_subject(variant, experiment) for variant in experiment.variants],
        data.words,
        data.bytes,
        Settings(experiment.resamples, experiment.confidence),
    )
    return results.Results(
        run=run,
        model=_model(experiment),
        data=data,
        noise_floor=measured.noise_floor,
        variants={ORIGINAL: measured.original, **measured.variants},
        controls=measured.controls,
        warnings=(*experiment.problems, *_too_few(units)),
    )


def manifest(experiment: OutlierExperiment, variant: Variant) -> dict[str, object]:
    """What made a variant's patch and for which weights, to be saved beside it."""
    model = dataclasses.asdict(_model(experiment))
    # Patches are for others too: where the folder lay here is not their business.
    if experiment.source.is_local:
        model["pretrained"] = Path(experiment.source.name).name
    return {"model": model, **variant.made_by}


def _model(experiment: OutlierExperiment) -> results.Model:
    return results.Model(
        pretrained=experiment.source.name,
        revision=experiment.source.revision,
        class_name=type(experiment.model).__name__,
        parameters=parameter_count(experiment.model),
        dtype=str(experiment.model.dtype).removeprefix("torch."),
    )


def _subject(variant: Variant, experiment: OutlierExperiment) -> Subject:
    edit = results.Edit(
        criterion=variant.criterion,
        edit=variant.edit,
        entries=variant.patch.entries,
        fraction=variant.patch.entries / parameter_count(experiment.model),
        by_module_class=entries_by_module_class(variant.patch, experiment.model),
        patch=patch_path(variant),
        is_original=not variant.patch.entries,
    )
    return Subject(variant.name, edit, variant.control_of)


def _too_few(units: int) -> list[str]:
    if units > 1:
        return []
    return ["There is one document (or block) only, and so no interval: give several documents."]
