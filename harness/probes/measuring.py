"""Measures what stretches of the rows of a matrix hold; one pass over the values serves all.

Legend: n rows of D features, k stretches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.probes.moments import Moments, Thresholds
from harness.probes.parts import Parts, Stretches, stretches

Floats = NDArray[np.float64]

# Beyond this ratio of mean to standard deviation, central moments lose too much to cancellation.
_FAR_FROM_ZERO = 2.0

# Below this mean of x⁴ too many fourth powers underflow in fp32; fp64 has room for them.
_TINY = 1e-30

# Values to a stretch of a whole matrix: where all are within a stretch's range, none is counted.
_STRETCH = 2**16


def measure(values: Tensor, thresholds: Thresholds) -> Moments:
    """Moments of all values of a matrix [n, D] of a floating-point type."""
    rows = max(1, _STRETCH // max(1, values.shape[1]))
    whole = Parts([stretches([(0, len(values))], rows)])
    return measure_parts(values, whole, thresholds)[0]


def measure_parts(values: Tensor, parts: Parts, thresholds: Thresholds) -> list[Moments]:
    """Moments of each of several parts of the rows of a matrix.

    Sums over a block of values are made in fp32 (in fp64 for fp64 values) and added up in fp64.
    Where the mean is far from zero, or fourth powers overflow or underflow, all is summed again in
    fp64 about the mean.

    Args:
        values: A matrix [n, D] of a floating-point type.
        parts: The parts.
        thresholds: What counts as an outlier.
    """
    found = [Moments()] * len(parts)
    values = values.detach()
    if not values.numel() or not parts.filled:
        return found
    with np.errstate(all="ignore"):
        powers, ranges = _sums(values, parts.stretches)
        # This runs at every site, in caches that the model has filled: what a call of numpy costs
        # there should serve all parts.
        totals = np.add.reduceat(powers, parts.starts).tolist()
        lows = np.minimum.reduceat(ranges[:, 0], parts.starts).tolist()
        highs = np.maximum.reduceat(ranges[:, 1], parts.starts).tolist()
        for part, (one, two, three, four), low, high in zip(
            parts.filled, totals, lows, highs, strict=True
        ):
            count = part.rows * values.shape[1]
            sums = Moments(count, one, two, three, four, _magnitude(low, high))
            if not (_well_conditioned(sums) and _within(sums, low, high, thresholds)):
                at = part.where
                sums = _read_again(values, parts.stretches[at], ranges[at], sums, thresholds)
            found[part.number] = sums
    return found


def _read_again(
    values: Tensor, part: Stretches, ranges: Floats, sums: Moments, thresholds: Thresholds
) -> Moments:
    """Moments of a part with outliers, or of which sums of powers do not tell enough."""
    largest = sums.max_abs
    if math.isfinite(largest) and largest and not _well_conditioned(sums):
        mean = sums.mean if math.isfinite(sums.mean) else 0.0
        powers = _sums(values, part, about=mean)[0].sum(0).tolist()
        sums = _shifted(sums.count, mean, powers)
    center, far = sums.mean, _reach(sums, thresholds)
    low, high = ranges.T
    # Most stretches have none, as their range shows; that of one with NaN shows nothing.
    within = np.maximum(-low, high) <= thresholds.absolute
    within &= np.maximum(center - low, high - center) <= far
    beyond = beyond_sigmas = 0
    if not within.all():
        outside = _count_outside(values, part[~within], thresholds.absolute, center, far)
        beyond, beyond_sigmas = outside
    return replace(sums, max_abs=largest, beyond=beyond, beyond_sigmas=beyond_sigmas)


def _magnitude(low: float, high: float) -> float:
    return math.nan if math.isnan(low) or math.isnan(high) else max(abs(low), abs(high))


def _within(sums: Moments, low: float, high: float, thresholds: Thresholds) -> bool:
    """Whether the range of some values shows that none is an outlier."""
    distance = max(sums.mean - low, high - sums.mean)
    return sums.max_abs <= thresholds.absolute and distance <= _reach(sums, thresholds)


def _reach(sums: Moments, thresholds: Thresholds) -> float:
    # Of equal values none lies beyond, whatever their mean is rounded to.
    return thresholds.sigmas * sums.std or math.inf


def _well_conditioned(moments: Moments) -> bool:
    if not math.isfinite(moments.fourths) or moments.fourths < _TINY * moments.count:
        return False
    return abs(moments.mean) <= _FAR_FROM_ZERO * moments.std


def _shifted(count: int, mean: float, powers: Sequence[float]) -> Moments:
    """Sums of powers from those of x - mean; the mean may be a little off."""
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


def _sums(values: Tensor, part: Stretches, about: float | None = None) -> tuple[Floats, Floats]:
    """Sums of powers [k, 4] and ranges [k, 2]; about a point in fp64."""
    if values.device.type != "cpu" and about is None:
        return by_operations(_widened(values), part)
    found = [by_kernel(*piece) for piece in _pieces(values, part, about)]
    if len(found) == 1:
        return found[0]
    powers, ranges = zip(*found, strict=True)
    return np.concatenate(powers), np.concatenate(ranges)


def _pieces(
    values: Tensor, part: Stretches, about: float | None = None
) -> Iterator[tuple[Tensor, Stretches]]:
    """Contiguous matrices on the CPU, none in fp16, and the stretches to look at in each."""
    if about is None and values.dtype != torch.float16:
        yield values.contiguous(), part
        return
    # What has to be converted is, stretch by stretch: a whole copy may be large.
    for start, stop in part.tolist():
        piece = values[start:stop]
        piece = piece.float() if about is None else piece.cpu().double() - about
        yield piece.contiguous(), np.array([(0, stop - start)])


def by_kernel(values: Tensor, part: Stretches) -> tuple[Floats, Floats]:
    """Sums of x, x², x³, x⁴ of stretches [k, 4], and their ranges [k, 2], NaN if a value is.

    Args:
        values: fp32, fp64 or bfloat16 on the CPU, contiguous [n, D].
        part: The stretches.
    """
    from harness.kernels import moments as kernels

    flat, wide = _in_memory(values)
    powers, ends = np.empty((len(part), 4)), np.empty((len(part), 2), wide.dtype)
    kernels.power_sums(flat, wide, part * values.shape[1], powers, ends)
    single = wide.itemsize == 4
    return powers, ends.view(np.float32 if single else np.float64).astype(np.float64)


def _in_memory(values: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """The values of a contiguous matrix as compiled loops read them, and the room they need."""
    from harness.kernels import moments as kernels

    if values.dtype == torch.bfloat16:
        values = values.view(torch.int16)
    wide = np.empty(kernels.BLOCK, np.int64 if values.dtype == torch.float64 else np.int32)
    return values.numpy().reshape(-1), wide


def by_operations(values: Tensor, part: Stretches) -> tuple[Floats, Floats]:
    """The same on any device, with one copy to the host."""
    square = values * values
    sums = [values.sum(1), square.sum(1), (values * square).sum(1), (square * square).sum(1)]
    rows = torch.stack([*sums, *values.aminmax(dim=1)], 1).cpu().double().numpy()
    pieces = [rows[start:stop] for start, stop in part]
    powers = [piece[:, :4].sum(0) for piece in pieces]
    ranges = [(piece[:, 4].min(), piece[:, 5].max()) for piece in pieces]
    return np.array(powers).reshape(-1, 4), np.array(ranges).reshape(-1, 2)


def _count_outside(
    values: Tensor, part: Stretches, absolute: float, center: float, reach: float
) -> tuple[int, int]:
    """How many values exceed a magnitude, and how many a distance from a centre."""
    if values.device.type != "cpu":
        return outside_by_operations(_widened(values), part, absolute, center, reach)
    from harness.kernels import moments as kernels

    found = [
        kernels.count_outside(*_in_memory(piece), places * piece.shape[1], absolute, center, reach)
        for piece, places in _pieces(values, part)
    ]
    beyond, outside = map(sum, zip(*found, strict=True))
    return beyond, outside


def outside_by_operations(
    values: Tensor, part: Stretches, absolute: float, center: float, reach: float
) -> tuple[int, int]:
    """The same on any device, in the values' own type."""
    whole = torch.cat([values[start:stop] for start, stop in part.tolist()])
    return count(whole.abs().gt_(absolute)), count((whole - center).abs_().gt_(reach))


def count(flags: Tensor) -> int:
    """How many of some ones and zeros are ones.

    Floating-point flags: comparisons that write their own type, and sums of it, are four times as
    fast as those of bools. A sum in fp32 is exact up to 2^24.
    """
    return sum(int(part.sum()) for part in torch.split(flags.flatten(), 2**24))


def _widened(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
