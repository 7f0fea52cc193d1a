"""P-values for differences that are paired by document, and what random controls say of them.

As in ``intervals``, everything works on sums per unit: a document, or a block of windows.

Legend: R rows (one per variant or control), U units, K controls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.scoring.intervals import Interval, ratio_intervals

FEWEST_CONTROLS = 19
"""With fewer controls than this a p-value could not reach 0.05."""

# Sign changes need larger batches (90 MiB): scipy makes several calls per unit and batch.
_SIGNS = 2**20

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ControlComparison:
    """A variant beside its matched random controls.

    Attributes:
        controls: Mean over the controls of their change of nll, nats per token. The interval is for
            these controls on other documents, not for other draws of controls.
        excess: The variant's change of nll beyond that mean, nats per token.
        importance_ratio: The variant's change divided by that mean; None where the interval of the
            mean includes zero, for then the ratio could be anything.
        p_value: See ``control_p_value``.
    """

    controls: Interval
    excess: Interval
    importance_ratio: float | None
    p_value: float | None


def paired_p_values(d: npt.ArrayLike, resamples: int = 10_000, seed: int = 0) -> list[float | None]:
    """Returns for each row the two-sided p-value of sum(d) under random changes of sign.

    The paired permutation test of ``scipy.stats.permutation_test``: were the variant no different
    from the original, each unit's difference could as well have had the other sign. All 2^U sign
    changes are tried where that is no more than ``resamples``; otherwise random ones, and the
    observed one is counted among them (Phipson & Smyth 2010), so that p is never 0. All rows see
    the same sign changes, and a row's p does not depend on which other rows are there.

    Args:
        d: Differences summed per unit, nats, [R, U].
        resamples: Number of random sign changes.
        seed: Seed of the sign changes.

    Returns:
        One p-value per row: 1 where all differences are zero, or where there is one unit only; None
        where a difference is not finite.
    """
    rows = np.asarray(d, dtype=np.float64)
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(rows), axis=-1)
    p_values: list[float | None] = [1.0 if ok else None for ok in finite.tolist()]
    if rows.shape[-1] >= 2 and finite.any():
        measured = _flip_signs(rows[finite], resamples, seed)
        for index, p in zip(np.flatnonzero(finite), measured, strict=True):
            p_values[index] = float(p)
    return p_values


def control_p_value(delta: float | None, controls: Iterable[float | None]) -> float | None:
    """Returns how surprising a variant's change of nll is among those of its random controls.

    This is (1 + controls at least as bad) / (1 + controls), one-sided: the rank of the variant. A
    control whose own change is not finite counts as worse.

    Args:
        delta: The variant's change of nll, nats per token.
        controls: The controls' changes of nll, nats per token.

    Returns:
        The p-value; None below ``FEWEST_CONTROLS`` controls, or where ``delta`` is not finite.
    """
    changes = [math.inf if c is None or not math.isfinite(c) else c for c in controls]
    if delta is None or not math.isfinite(delta) or len(changes) < FEWEST_CONTROLS:
        return None
    return (1 + sum(c >= delta for c in changes)) / (1 + len(changes))


def versus_controls(
    d: npt.ArrayLike,
    controls: npt.ArrayLike,
    t: npt.ArrayLike,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ControlComparison:
    """Compares a variant with the mean of its matched random controls, on the same units.

    Args:
        d: The variant's differences to the original summed per unit, nats, [U].
        controls: The controls' differences to the original summed per unit, nats, [K, U].
        t: Scored tokens per unit, [U].
        resamples: Number of bootstrap resamples.
        confidence: Coverage that the intervals aim at, between 0 and 1.
        seed: Seed of the resamples.
    """
    variant = np.asarray(d, dtype=np.float64)
    each = np.asarray(controls, dtype=np.float64)
    mean = each.mean(0)
    excess, average = ratio_intervals(
        np.stack([variant - mean, mean]), t, resamples, confidence, seed
    )
    tokens = float(np.sum(t))
    delta, *deltas = (float(row.sum()) / tokens for row in (variant, *each))
    ratio = delta / average.estimate if average.estimate and average.excludes_zero() else None
    return ControlComparison(
        controls=average,
        excess=excess,
        importance_ratio=ratio if ratio is not None and math.isfinite(ratio) else None,
        p_value=control_p_value(delta, deltas),
    )


def _flip_signs(rows: _Array, resamples: int, seed: int) -> _Array:
    """Returns the p-value of each row, [R]; rows are finite, over at least two units."""
    from scipy.stats import permutation_test

    # What is flipped is a row of ones: one draw of signs then serves all rows. They are summed row
    # by row and not as a matrix product, whose rounding may vary with the rows and with threads.
    def sums(signs: _Array, axis: int = -1) -> _Array:
        signs = np.ascontiguousarray(signs)
        return np.stack([(signs * row).sum(axis) for row in rows], axis=-1)

    test = permutation_test(
        (np.ones(rows.shape[-1]),),
        sums,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _SIGNS // rows.shape[-1]),
        rng=np.random.Generator(np.random.PCG64(seed)),
    )
    p_values: _Array = test.pvalue
    return p_values
