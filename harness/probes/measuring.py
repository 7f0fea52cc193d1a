"""Measures what stretches of the rows of a matrix hold; one pass over the values serves all.

Legend: n rows of D features, k stretches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from harness.base.shards import ChannelGroup
from harness.probes.moments import Moments, Thresholds
from harness.probes.parts import Key, Parts, Stretches
from harness.probes.reading import Floats, count_outside, power_sums

# Beyond this ratio of mean to standard deviation, central moments lose too much to cancellation.
_FAR_FROM_ZERO = 2.0

# Below this mean of x⁴ too many fourth powers underflow in fp32; fp64 has room for them.
_TINY = 1e-30

# Values to a stretch of a whole matrix: where all are within a stretch's range, none is counted.
_STRETCH = 2**16


def measure(values: Tensor, thresholds: Thresholds) -> Moments:
    """Moments of all values of a matrix [n, D] of a floating-point type."""
    rows = max(1, _STRETCH // max(1, values.shape[1]))
    whole = Parts({"whole": [(0, len(values))]}, rows)
    return measure_parts(values, whole, thresholds).get("whole", Moments())


def measure_parts(
    values: Tensor, parts: Parts[Key], thresholds: Thresholds, group: ChannelGroup | None = None
) -> dict[Key, Moments]:
    """Moments of each of several parts of the rows of a matrix.

    Sums over a block of values are made in fp32 (in fp64 for fp64 values) and added up in fp64.
    Where the mean is far from zero, or fourth powers overflow or underflow, all is summed again in
    fp64 about the mean. On the CPU a part has the same bits whatever parts there are beside it.

    Args:
        values: A matrix [n, D] of a floating-point type.
        parts: The parts.
        thresholds: What counts as an outlier.
        group: Processes of which each has some of the columns, and all measure at once; None where
            the matrix is whole.

    Returns:
        Moments of the parts that have values, in order: those of all columns, but for outliers,
        which are counted among the columns here.
    """
    found: dict[Key, Moments] = {}
    if not values.numel() or not parts.filled:
        return found
    values = values.detach()
    with np.errstate(all="ignore"):
        sums = power_sums(values, parts.stretches)
        # This runs at every site, in caches that the model has filled: what a call of numpy costs
        # there should serve all parts.
        totals = np.add.reduceat(sums[:, :4], parts.starts)
        lows = np.minimum.reduceat(sums[:, 4], parts.starts)
        highs = np.maximum.reduceat(sums[:, 5], parts.starts)
        width = values.shape[1]
        if group is not None:
            width, totals, lows, highs = _of_all_columns(group, width, totals, lows, highs)
        for (key, where, rows), (one, two, three, four), low, high in zip(
            parts.filled, totals.tolist(), lows.tolist(), highs.tolist(), strict=True
        ):
            count = rows * width
            known = not (math.isnan(low) or math.isnan(high))
            largest = max(abs(low), abs(high)) if known else math.nan
            moments = Moments(count, one, two, three, four, largest)
            if not (_well_conditioned(moments) and _within(low, high, moments, thresholds)):
                ranges = sums[where, 4:]
                part = parts.stretches[where]
                moments = _read_again(values, part, ranges, moments, thresholds, group)
            found[key] = moments
    return found


def _of_all_columns(
    group: ChannelGroup, width: int, totals: Floats, lows: Floats, highs: Floats
) -> tuple[int, Floats, Floats, Floats]:
    """Number of columns, sums and ranges of parts of which each process has some columns."""
    own = np.column_stack([np.full(len(lows), width), totals, lows, highs])
    each = group.each(own)
    return (
        int(each[:, 0, 0].sum()),
        each[:, :, 1:5].sum(0),
        np.minimum.reduce(each[:, :, 5]),
        np.maximum.reduce(each[:, :, 6]),
    )


def _read_again(
    values: Tensor,
    part: Stretches,
    ranges: Floats,
    moments: Moments,
    thresholds: Thresholds,
    group: ChannelGroup | None,
) -> Moments:
    """Moments of a part with outliers, or of which sums of powers do not tell enough."""
    largest = moments.max_abs
    if math.isfinite(largest) and largest and not _well_conditioned(moments):
        mean = moments.mean if math.isfinite(moments.mean) else 0.0
        powers = power_sums(values, part, about=mean)[:, :4].sum(0)
        if group is not None:
            powers = group.each(powers).sum(0)
        moments = shifted(moments.count, mean, powers.tolist())
    # Most stretches have none, as their range shows.
    left = part[~_within(ranges[:, 0], ranges[:, 1], moments, thresholds)]
    beyond = beyond_sigmas = 0
    if len(left):
        far = _reach(moments, thresholds)
        beyond, beyond_sigmas = count_outside(values, left, thresholds.absolute, moments.mean, far)
    return replace(moments, max_abs=largest, beyond=beyond, beyond_sigmas=beyond_sigmas)


def _within(low: Any, high: Any, moments: Moments, thresholds: Thresholds) -> Any:
    """Whether a range, or each of many, shows that none is an outlier; one with NaN does not."""
    center, far, absolute = moments.mean, _reach(moments, thresholds), thresholds.absolute
    return (-low <= absolute) & (high <= absolute) & (center - low <= far) & (high - center <= far)


def _reach(moments: Moments, thresholds: Thresholds) -> float:
    # Of equal values none lies beyond, whatever their mean is rounded to.
    return thresholds.sigmas * moments.std or math.inf


def _well_conditioned(moments: Moments) -> bool:
    if not math.isfinite(moments.fourths) or moments.fourths < _TINY * moments.count:
        return False
    return abs(moments.mean) <= _FAR_FROM_ZERO * moments.std


def shifted(count: int, mean: float, powers: Sequence[float]) -> Moments:
    """Moments from sums of powers of x - mean; the mean may be a little off."""
    one, two, three, four = powers
    square = mean * mean
    cube = square * mean
    return Moments(
        count,
        one + count * mean,
        two + 2 * mean * one + count * square,
        three + 3 * mean * two + 3 * square * one + count * cube,
        four + 4 * mean * three + 6 * square * two + 4 * cube * one + count * square * square,
    )
