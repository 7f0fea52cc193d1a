"""From rows of windows to figures: each model beside the original, and beside its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from harness.evaluation.design import Resampling, Subject
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
    tokens, baseline = _per_sample(base, samples)
    changes = {
        subject.name: _per_sample(tallies[subject.name], samples)[1] - baseline
        for subject in subjects
    }
    rows = np.stack(list(changes.values())) if changes else np.zeros((0, len(tokens)))
    intervals = ratio_intervals(rows, tokens, resampling.confidence)
    p_values = paired_p_values(rows, resampling.resamples, resampling.seed)
    records = {ORIGINAL: schema.VariantRecord(likelihood=_likelihood(base, words, bytes))}
    for subject, interval, p_value in zip(subjects, intervals, p_values, strict=True):
        tally = tallies[subject.name]
        controls = [changes[s.name] for s in subjects if s.control_of == subject.name]
        records[subject.name] = schema.VariantRecord(
            likelihood=_likelihood(tally, words, bytes),
            edit=subject.edit,
            versus_original=schema.VersusOriginal(
                delta_nll=interval.estimate,
                delta_nll_ci95=interval.bounds,
                p_value=p_value,
                perplexity_ratio=exp_or_none(interval.estimate),
                **_divergence(tally),
            ),
            versus_control=_versus_control(changes[subject.name], controls, tokens, resampling),
        )
    return records


def _per_sample(tally: Tally, samples: Sequence[int] | None) -> tuple[_Array, _Array]:
    """Scored tokens and nats per sample, summed in the order of the plan."""
    rows = tally.sorted_rows()
    labels = [row.unit if samples is None else samples[row.unit] for row in rows]
    _, where = np.unique(labels, return_inverse=True)
    tokens, nll = (
        np.bincount(where, np.array(column, dtype=np.float64))
        for column in ([row.tokens for row in rows], [row.nll for row in rows])
    )
    return tokens.astype(np.float64), nll.astype(np.float64)


def _likelihood(tally: Tally, words: int | None, bytes: int | None) -> schema.Likelihood:
    return likelihood([row.nll for row in tally.sorted_rows()], tally.tokens, words, bytes)


def _divergence(tally: Tally) -> dict[str, float | None]:
    finite = tally.kl.nonfinite == 0
    agreed = sum(row.agree for row in tally.rows)
    return {
        "kl_mean": likelihood([row.kl for row in tally.sorted_rows()], tally.tokens).nll,
        "kl_p50": tally.kl.quantile(0.5) if finite else None,
        "kl_p99": tally.kl.quantile(0.99) if finite else None,
        "kl_max": tally.kl.maximum if finite else None,
        "top1_agreement": agreed / tally.tokens if finite else None,
    }


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


def noise_floor(base: Tally, again: Tally, rounding: schema.Rounding | None) -> schema.NoiseFloor:
    """What of a difference is arithmetic.

    Args:
        base: Rows of the original.
        again: Rows of the original's second scoring, which may cover fewer windows.
        rounding: What the precision of the weights leaves undecided.
    """
    delta_nll, kl_mean = _differences(base, again)
    return schema.NoiseFloor(delta_nll, kl_mean, rounding)


def rounding(base: Tally, nudged: Tally, entries: int) -> schema.Rounding | None:
    """What the precision of the weights leaves undecided.

    Args:
        base: Rows of the original.
        nudged: Rows of the original with some weights moved to the next number of their type, which
            may cover fewer windows.
        entries: Number of weights moved.

    Returns:
        The figures; None where no such rows are there.
    """
    if not nudged.rows:
        return None
    agreement = _divergence(nudged)["top1_agreement"]
    return schema.Rounding(entries, *_differences(base, nudged), agreement)


def _differences(base: Tally, other: Tally) -> tuple[float | None, float | None]:
    """Change of nll and mean divergence, nats per token, on the windows that both cover."""
    first = {row.window: row for row in base.rows}
    rows = other.sorted_rows()
    differences = [row.nll - first[row.window].nll for row in rows]
    divergences = [row.kl for row in rows]
    delta, divergence = (likelihood(nll, other.tokens).nll for nll in (differences, divergences))
    return delta, divergence
