"""From rows of windows to figures: each model beside the original, and beside its controls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.evaluation.design import NOISE_FLOOR, ROUNDING, Resampling, Subject
from harness.results import schema
from harness.results.schema import ORIGINAL
from harness.scoring.rows import Tally
from harness.statistics.controls import versus_controls
from harness.statistics.intervals import ratio_intervals
from harness.statistics.perplexity import exp_or_none, likelihood
from harness.statistics.significance import paired_p_values

_Array = npt.NDArray[np.float64]


def effects(
    tallies: Mapping[str, Tally],
    subjects: Sequence[Subject],
    words: int | None,
    bytes: int | None,
    resampling: Resampling,
    samples: Sequence[int] | None = None,
) -> dict[str, schema.VariantRecord]:
    """Compares every variant with the original, and with its controls.

    Totals are of all rows. Intervals and p-values are over samples: units that hold the same text
    tell once what one of them tells, and so stand and fall together.

    Args:
        tallies: Rows and histograms by name, the original's among them.
        subjects: Variants and controls, each variant before its controls.
        words: Words of the documents, None where the windows do not cover them.
        bytes: Bytes of the documents, likewise.
        resampling: How intervals and p-values are made.
        samples: Number of the sample that each unit of resampling belongs to, by number of the
            unit; by default each is its own.

    Returns:
        What was measured of each, by name, the original's first.
    """
    base = tallies[ORIGINAL]
    sample_of = None if samples is None else np.asarray(samples)
    tokens, baseline = _per_sample(base, sample_of)
    changes = {
        subject.name: _per_sample(tallies[subject.name], sample_of)[1] - baseline
        for subject in subjects
    }
    controls: dict[str, list[_Array]] = defaultdict(list)
    for subject in subjects:
        if subject.control_of is not None:
            controls[subject.control_of].append(changes[subject.name])
    rows = np.stack(list(changes.values())) if changes else np.zeros((0, len(tokens)))
    intervals = ratio_intervals(rows, tokens, resampling.confidence)
    p_values = paired_p_values(rows, resampling.resamples, resampling.seed)
    records = {ORIGINAL: schema.VariantRecord(likelihood=_likelihood(base, words, bytes))}
    for subject, interval, p_value in zip(subjects, intervals, p_values, strict=True):
        tally = tallies[subject.name]
        records[subject.name] = schema.VariantRecord(
            likelihood=_likelihood(tally, words, bytes),
            edit=subject.edit,
            versus_original=schema.VersusOriginal(
                delta_nll=interval.estimate,
                delta_nll_ci95=interval.bounds,
                p_value=p_value,
                perplexity_ratio=exp_or_none(interval.estimate),
                **tally.divergence(),
            ),
            versus_control=_versus_control(
                changes[subject.name], controls[subject.name], tokens, resampling
            ),
        )
    return records


def _per_sample(tally: Tally, samples: npt.NDArray[Any] | None) -> tuple[_Array, _Array]:
    """Scored tokens and nats per sample, summed in the order of the plan."""
    rows = tally.rows
    labels = rows.unit if samples is None else samples[rows.unit]
    _, where = np.unique(labels, return_inverse=True)
    tokens, nll = (np.bincount(where, column) for column in (rows.tokens, rows.nll))
    return tokens.astype(np.float64), nll.astype(np.float64)


def _likelihood(tally: Tally, words: int | None, bytes: int | None) -> schema.Likelihood:
    return likelihood(tally.rows.nll.tolist(), tally.tokens, words, bytes)


def _versus_control(
    change: _Array, controls: list[_Array], tokens: _Array, resampling: Resampling
) -> schema.VersusControl | None:
    if not controls:
        return None
    compared = versus_controls(change, np.stack(controls), tokens, resampling.confidence)
    return schema.VersusControl(
        controls=len(controls),
        delta_nll=compared.controls.estimate,
        delta_nll_ci95=compared.controls.bounds,
        excess_delta_nll=compared.excess.estimate,
        excess_ci95=compared.excess.bounds,
        importance_ratio=compared.importance_ratio,
        p_value=compared.p_value,
        lowest=compared.lowest,
        highest=compared.highest,
    )


def noise_floor(
    tallies: Mapping[str, Tally], subjects: Sequence[Subject]
) -> schema.NoiseFloor | None:
    """What of a difference is arithmetic; None where the original was not scored again.

    Args:
        tallies: Rows and histograms by name; those of floors may cover fewer windows.
        subjects: What was measured, floors among it.
    """
    if NOISE_FLOOR not in tallies:
        return None
    base = tallies[ORIGINAL]
    rounding = None
    for subject in subjects:
        if subject.name == ROUNDING and subject.edit is not None and ROUNDING in tallies:
            moved = tallies[ROUNDING]
            agreement = moved.divergence()["top1_agreement"]
            differences = _differences(base, moved)
            rounding = schema.Rounding(subject.edit.entries, *differences, agreement)
    return schema.NoiseFloor(*_differences(base, tallies[NOISE_FLOOR]), rounding)


def _differences(base: Tally, other: Tally) -> tuple[float | None, float | None]:
    """Change of nll and mean divergence, nats per token, on the windows that both cover."""
    first, rows = base.rows, other.rows
    same = first.nll[np.searchsorted(first.window, rows.window)]
    with np.errstate(invalid="ignore"):  # infinite beside infinite
        differences = rows.nll - same
    columns = (differences.tolist(), rows.kl.tolist())
    delta, divergence = (likelihood(nats, other.tokens).nll for nats in columns)
    return delta, divergence
