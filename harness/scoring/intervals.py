"""Bootstrap intervals for differences that are paired by document.

Tokens of one text are not independent, so the unit that is resampled is the document, or a block of
consecutive windows where documents were joined. Everything here works on sums per unit: paired
differences of negative log-likelihood ``d`` (variant minus original, nats) and scored tokens ``t``.
The figure that is reported is ``sum(d) / sum(t)``, nats per token.

Legend: R rows (one per variant or control), U units.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_UNITS_FOR_BCA = 10_000
"""Above this many units intervals are percentile intervals.

The jackknife of BCa takes U² operations, and what it corrects shrinks as 1/sqrt(U): here it is
below the error of a quantile estimated from 10,000 resamples unless the skewness is beyond 10.
"""

# Resamples are drawn in batches of about this many indices (2 MiB, which stays in the cache).
_CELLS = 2**18

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
    finite = np.all(np.isfinite(rows), axis=-1)
    if tokens.size and finite.any():
        measured = _intervals(rows[finite], tokens, resamples, confidence, seed)
        for index, interval in zip(np.flatnonzero(finite), measured, strict=True):
            intervals[index] = interval
    return intervals


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
            rng=np.random.Generator(np.random.PCG64(seed)),
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


def _constant(rows: _Array, tokens: _Array, estimates: _Array) -> npt.NDArray[np.bool_]:
    """Whether a row's ratio is the same in every unit, but for rounding, [R]."""
    expected = estimates[:, None] * tokens
    near = np.abs(rows - expected) <= 1e-12 * np.abs(expected)
    constant: npt.NDArray[np.bool_] = np.all(near, axis=-1)
    return constant
