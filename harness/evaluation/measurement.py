"""From rows per window to the figures of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.results import schema
from harness.scoring.rows import Tally
from harness.statistics.controls import versus_controls
from harness.statistics.intervals import ratio_intervals
from harness.statistics.perplexity import exp_or_none, likelihood
from harness.statistics.significance import paired_p_values

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Subject:
    """A variant or control whose rows are to be turned into figures.

    Attributes:
        name: Its name.
        edit: What was done to the weights.
        control_of: The variant that it is a control for; None for a variant.
    """

    name: str
    edit: schema.EditRecord
    control_of: str | None = None


@dataclass(frozen=True)
class Settings:
    """How intervals and p-values are made.

    Attributes:
        resamples: Random changes of sign behind p-values.
        confidence: Coverage of the intervals, 0 to 1.
        seed: Seed of the changes of sign.
    """

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """The part of the results that rows give.

    Attributes:
        original: The original's record.
        variants: Records of the variants, by name.
        controls: Records of the controls, by name.
        noise_floor: The original against itself; None where nothing was scored.
    """

    original: schema.VariantRecord
    variants: dict[str, schema.VariantRecord]
    controls: dict[str, schema.VariantRecord]
    noise_floor: schema.NoiseFloor | None = None

    @classmethod
    def of(
        cls,
        original: schema.VariantRecord,
        records: Mapping[str, schema.VariantRecord],
        subjects: Sequence[Subject],
        noise_floor: schema.NoiseFloor | None = None,
    ) -> Measured:
        """Parts the records of the subjects into variants and controls."""
        return cls(
            original,
            {s.name: records[s.name] for s in subjects if s.control_of is None},
            {s.name: records[s.name] for s in subjects if s.control_of is not None},
            noise_floor,
        )


def measure(
    tallies: Mapping[str, Tally],
    original: str,
    again: str,
    subjects: Sequence[Subject],
    words: int | None,
    bytes: int | None,
    settings: Settings,
    samples: Sequence[int] | None = None,
) -> Measured:
    """Compares every variant with the original, and with its controls.

    Totals are of all rows. Intervals and p-values are over samples: units that hold the same text
    tell once what one of them tells, and so stand and fall together.

    Args:
        tallies: Rows and histograms by name.
        original: Name of the original's tally.
        again: Name of the tally of the original's second scoring, which may cover fewer windows.
        subjects: Variants and controls, each variant before its controls.
        words: Words of the documents, None where the windows do not cover them.
        bytes: Bytes of the documents, likewise.
        settings: How intervals and p-values are made.
        samples: Number of the sample that each unit of resampling belongs to, by number of the
            unit; by default each is its own.
    """
    base = tallies[original]
    tokens, baseline = _per_sample(base, samples)
    changes = {
        subject.name: _per_sample(tallies[subject.name], samples)[1] - baseline
        for subject in subjects
    }
    rows = np.stack(list(changes.values())) if changes else np.zeros((0, len(tokens)))
    intervals = ratio_intervals(rows, tokens, settings.confidence)
    p_values = paired_p_values(rows, settings.resamples, settings.seed)
    records: dict[str, schema.VariantRecord] = {}
    for subject, interval, p_value in zip(subjects, intervals, p_values, strict=True):
        tally = tallies[subject.name]
        controls = [s.name for s in subjects if s.control_of == subject.name]
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
            versus_control=_versus_control(
                changes[subject.name], [changes[name] for name in controls], tokens, settings
            ),
        )
    original_record = schema.VariantRecord(likelihood=_likelihood(base, words, bytes))
    return Measured.of(original_record, records, subjects, _noise_floor(base, tallies[again]))


def unscored(subjects: Sequence[Subject]) -> Measured:
    """The same where no text was scored: what was done to the weights, and no figure."""
    records = {subject.name: schema.VariantRecord(edit=subject.edit) for subject in subjects}
    return Measured.of(schema.VariantRecord(), records, subjects)


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
    rows = tally.sorted_rows()
    tokens = sum(row.tokens for row in rows)
    return likelihood([row.nll for row in rows], tokens, words, bytes)


def _divergence(tally: Tally) -> dict[str, float | None]:
    rows = tally.sorted_rows()
    tokens = sum(row.tokens for row in rows)
    finite = tally.kl.nonfinite == 0
    mean = likelihood([row.kl for row in rows], tokens).nll
    return {
        "kl_mean": mean,
        "kl_p50": tally.kl.quantile(0.5) if finite else None,
        "kl_p99": tally.kl.quantile(0.99) if finite else None,
        "kl_max": tally.kl.maximum if finite else None,
        "top1_agreement": sum(row.agree for row in rows) / tokens if finite else None,
    }


def _versus_control(
    change: _Array, controls: list[_Array], tokens: _Array, settings: Settings
) -> schema.VersusControl | None:
    if not controls:
        return None
    compared = versus_controls(change, np.stack(controls), tokens, settings.confidence)
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


def _noise_floor(base: Tally, again: Tally) -> schema.NoiseFloor:
    first = {row.window: row for row in base.rows}
    rows = again.sorted_rows()
    tokens = sum(row.tokens for row in rows)
    differences = [row.nll - first[row.window].nll for row in rows]
    return schema.NoiseFloor(
        delta_nll=likelihood(differences, tokens).nll,
        kl_mean=likelihood([row.kl for row in rows], tokens).nll,
    )


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
    floor, divergence = _noise_floor(base, nudged), _divergence(nudged)
    return schema.Rounding(entries, floor.delta_nll, floor.kl_mean, divergence["top1_agreement"])
