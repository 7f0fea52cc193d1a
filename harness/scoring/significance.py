"""Intervals and p-values for differences that are paired by document.

Tokens of one text are not independent, so the unit that is resampled is the document, or a block of
consecutive windows where documents were joined. Everything here works on sums per unit: paired
differences of negative log-likelihood ``d`` (variant minus original, nats) and scored tokens ``t``.
The figure that is reported is ``sum(d) / sum(t)``, nats per token.

Legend: R rows (one per variant or control), U units, K controls.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST_CONTROLS = 19
"""With fewer controls than this a p-value could not reach 0.05."""

MOST_UNITS_FOR_BCA = 10_000
"""Above this many units intervals are percentile intervals.

The jackknife of BCa takes U² operations, and what it corrects shrinks as 1/sqrt(U): here it is
below the error of a quantile estimated from 10,000 resamples unless the skewness is beyond 10.
"""

# Resamples are drawn in batches of about this many indices (2 MiB, which stays in the cache).
_CELLS = 2**18
# Sign changes need larger batches (90 MiB): scipy makes several calls per unit and batch.
_SIGNS = 2**20

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, in the unit of the estimate.

    Attributes:
        estimate: The figure on all units; None where it is not finite.
        low: Lower end; None where fewer than two units were there to resample.
        high: Upper end; None where fewer than two units were there to resample.
    """

    estimate: float | None
    low: float | None
    high: float | None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both ends, or None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def excludes_zero(self) -> bool:
        """Whether there is an interval and zero lies outside it."""
        return self.bounds is not None and (self.bounds[0] > 0.0 or self.bounds[1] < 0.0)


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


def ratio_interval(
    d: npt.ArrayLike,
    t: npt.ArrayLike,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns sum(d) / sum(t) with its interval; see ``ratio_intervals``, of which it is one row.

    Args:
        d: Differences summed per unit, nats, [U].
        t: Scored tokens per unit, [U].
        resamples: Number of bootstrap resamples.
        confidence: Coverage that the interval aims at, between 0 and 1.
        seed: Seed of the resamples.
    """
    return ratio_intervals(np.asarray(d)[None], t, resamples, confidence, seed)[0]


def ratio_intervals(
    d: npt.ArrayLike,
    t: npt.ArrayLike,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Returns sum(d) / sum(t) of each row with a bootstrap interval over units.

    The interval is bias-corrected and accelerated (BCa; Efron 1987, *Better bootstrap confidence
    intervals*), by ``scipy.stats.bootstrap``: units are drawn with replacement, each with its
    difference and its tokens. All rows see the same draws, and a row's interval does not depend on
    which other rows are there. Where BCa is undefined (all resamples on one side of the estimate),
    and above ``MOST_UNITS_FOR_BCA`` units, the row gets the percentile interval of the same
    resamples. A ratio that is the same in every unit, as when nothing was edited, has an interval
    of no width. Units without tokens are left out.

    Args:
        d: Differences summed per unit, nats, [R, U].
        t: Scored tokens per unit, [U].
        resamples: Number of bootstrap resamples.
        confidence: Coverage that the intervals aim at, between 0 and 1.
        seed: Seed of the resamples.

    Returns:
        One interval per row. A row that holds a non-finite difference gets three times None.
    """
    tokens = np.asarray(t, dtype=np.float64)
    rows = np.asarray(d, dtype=np.float64)[:, tokens > 0]
    tokens = tokens[tokens > 0]
    intervals = [Interval(None, None, None)] * len(rows)
    finite = _finite(rows)
    if tokens.size and finite.any():
        measured = _intervals(rows[finite], tokens, resamples, confidence, seed)
        for index, interval in zip(np.flatnonzero(finite), measured, strict=True):
            intervals[index] = interval
    return intervals


def paired_p_value(d: npt.ArrayLike, resamples: int = 10_000, seed: int = 0) -> float | None:
    """Returns the p-value of sum(d) against zero; see ``paired_p_values``, of which it is one row.

    Args:
        d: Differences summed per unit, nats, [U].
        resamples: Number of random sign changes.
        seed: Seed of the sign changes.
    """
    return paired_p_values(np.asarray(d)[None], resamples, seed)[0]


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
    finite = _finite(rows)
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


def block_length(windows: int) -> int:
    """Returns how many consecutive windows make one unit where documents were joined.

    The smallest whole number that is at least ``windows ** (1/3)``: the rate at which blocks have
    to grow for the variance of a mean of dependent data to be estimated best (Hall, Horowitz & Jing
    1995, *On blocking rules for the bootstrap with dependent data*, Biometrika 82).

    Args:
        windows: Number of windows.
    """
    length = round(math.cbrt(windows))
    # The floating-point root of a cube may come out on either side of it.
    while length**3 < windows:
        length += 1
    while length > 1 and (length - 1) ** 3 >= windows:
        length -= 1
    return max(1, length)


def block_labels(windows: int) -> npt.NDArray[np.int64]:
    """Returns the unit of each window, in the order of the text, [windows]: 0, 0, ..., 1, 1, ....

    Args:
        windows: Number of windows; the last block is shorter where they do not divide evenly.
    """
    return np.arange(windows, dtype=np.int64) // block_length(windows)


def _intervals(
    rows: _Array, tokens: _Array, resamples: int, confidence: float, seed: int
) -> list[Interval]:
    """Returns the intervals of rows that are finite, over at least one unit."""
    # Contiguous, since numpy's order of summation, and with it the last digit, follows the layout.
    rows = np.ascontiguousarray(rows)
    estimates: _Array = rows.sum(-1) / tokens.sum()
    if tokens.size < 2:
        return [Interval(float(estimate), None, None) for estimate in estimates]
    bounds = np.stack([estimates, estimates], axis=-1)
    varied = ~_constant(rows, tokens, estimates)
    if varied.any():
        bounds[varied] = _bootstrap(rows[varied], tokens, resamples, confidence, seed)
    return [
        Interval(float(estimate), float(low), float(high))
        for estimate, (low, high) in zip(estimates, bounds, strict=True)
    ]


def _bootstrap(
    rows: _Array, tokens: _Array, resamples: int, confidence: float, seed: int
) -> _Array:
    """Returns the interval of each row, [R, 2]; rows are finite and vary between units."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    # What is resampled is the unit's number: one draw then serves all rows, and nothing of size
    # rows times resamples times units is ever made.
    def ratios(units: npt.NDArray[np.int64], axis: int = -1) -> _Array:
        total: _Array = tokens[units].sum(axis)
        return np.stack([row[units].sum(axis) / total for row in rows])

    numbers = (np.arange(tokens.size),)
    method = "BCa" if tokens.size <= MOST_UNITS_FOR_BCA else "percentile"
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            numbers,
            ratios,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _CELLS // tokens.size),
            confidence_level=confidence,
            method=method,
            rng=_generator(seed),
        )
        percentile = bootstrap(
            numbers,
            ratios,
            vectorized=True,
            n_resamples=0,
            bootstrap_result=result,
            confidence_level=confidence,
            method="percentile",
        )
    bounds = np.stack(result.confidence_interval, axis=-1)
    fallback = np.stack(percentile.confidence_interval, axis=-1)
    undefined = np.isnan(bounds).any(-1, keepdims=True)
    chosen: _Array = np.where(undefined, fallback, bounds)
    return chosen


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
        rng=_generator(seed),
    )
    p_values: _Array = test.pvalue
    return p_values


def _finite(rows: _Array) -> npt.NDArray[np.bool_]:
    """Whether all differences of a row are finite, [R]."""
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(rows), axis=-1)
    return finite


def _constant(rows: _Array, tokens: _Array, estimates: _Array) -> npt.NDArray[np.bool_]:
    """Whether a row's ratio is the same in every unit, but for rounding, [R]."""
    expected = estimates[:, None] * tokens
    near = np.abs(rows - expected) <= 1e-12 * np.abs(expected)
    constant: npt.NDArray[np.bool_] = np.all(near, axis=-1)
    return constant


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
