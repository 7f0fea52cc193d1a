"""Measures what stretches of the rows of a matrix hold; one pass over the values serves all.

Legend: n rows of D features, k stretches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.probes.moments import Moments, Thresholds

Stretches = NDArray[np.int64]
"""Where each stretch of rows starts, and the row after its last [k, 2]; none is empty."""

Floats = NDArray[np.float64]

# Beyond this ratio of mean to standard deviation, central moments lose too much to cancellation.
_FAR_FROM_ZERO = 2.0

# Below this mean of x⁴ too many fourth powers underflow in fp32; fp64 has room for them.
_TINY = 1e-30

# Values to a stretch of a whole matrix: where all are within a stretch's range, none is counted.
_STRETCH = 2**16

# For each type of float the integers of its size, the place of their sign bit, and all other bits.
_SINGLE = (np.int32, np.int32(31), np.int32(2**31 - 1))
_DOUBLE = (np.int64, np.int64(63), np.int64(2**63 - 1))


def measure(values: Tensor, thresholds: Thresholds) -> Moments:
    """Moments of all values of a matrix [n, D] of a floating-point type."""
    rows = max(1, _STRETCH // max(1, values.shape[1]))
    return measure_parts(values, [stretches([(0, len(values))], rows)], thresholds)[0]


def stretches(spans: Iterable[tuple[int, int]], rows: int) -> Stretches:
    """Stretches of at most some rows that make up spans of rows (start, stop)."""
    cut = [
        (first, min(first + rows, stop))
        for start, stop in spans
        for first in range(start, stop, rows)
    ]
    return np.array(cut, np.int64).reshape(-1, 2)


def measure_parts(
    values: Tensor, parts: Sequence[Stretches], thresholds: Thresholds
) -> list[Moments]:
    """Moments of each of several parts of the rows of a matrix.

    Sums over a block of values are made in fp32 (in fp64 for fp64 values) and added up in fp64.
    Where the mean is far from zero, or fourth powers overflow or underflow, all is summed again in
    fp64 about the mean.

    Args:
        values: A matrix [n, D] of a floating-point type.
        parts: The stretches of each part.
        thresholds: What counts as an outlier.
    """
    values = values.detach()
    if not values.numel() or not any(map(len, parts)):
        return [Moments() for _ in parts]
    powers, ranges = _sums(values, np.concatenate(parts))
    splits = np.cumsum([len(part) for part in parts])[:-1]
    with np.errstate(all="ignore"):
        return [
            _moments(values, *part, thresholds)
            for part in zip(parts, np.split(powers, splits), np.split(ranges, splits), strict=True)
        ]


def _moments(
    values: Tensor, part: Stretches, powers: Floats, ranges: Floats, thresholds: Thresholds
) -> Moments:
    if not len(part):
        return Moments()
    count = int((part[:, 1] - part[:, 0]).sum()) * values.shape[1]
    found = Moments(count, *powers.sum(0).tolist())
    largest = float(np.abs(ranges).max())
    if math.isfinite(largest) and largest and not _well_conditioned(found):
        mean = found.mean if math.isfinite(found.mean) else 0.0
        found = _shifted(count, mean, _sums(values, part, about=mean)[0].sum(0).tolist())
    # Of equal values none lies beyond, whatever their mean is rounded to.
    far, center = thresholds.sigmas * found.std or math.inf, found.mean
    low, high = ranges.T
    # Most stretches have none, as their range shows; that of one with NaN shows nothing.
    within = np.maximum(-low, high) <= thresholds.absolute
    within &= np.maximum(center - low, high - center) <= far
    beyond = beyond_sigmas = 0
    if not within.all():
        outside = _count_outside(values, part[~within], thresholds.absolute, center, far)
        beyond, beyond_sigmas = outside
    return replace(found, max_abs=largest, beyond=beyond, beyond_sigmas=beyond_sigmas)


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
    powers, ranges = zip(*found, strict=True)
    return np.concatenate(powers), np.concatenate(ranges)


def _pieces(
    values: Tensor, part: Stretches, about: float | None = None
) -> Iterator[tuple[Tensor, Stretches]]:
    """Contiguous matrices on the CPU, fp32 or wider, and the stretches to look at in each."""
    if about is None and not _narrow(values):
        yield values.contiguous(), part
        return
    # What has to be converted is, stretch by stretch: a whole copy may be large.
    for start, stop in part.tolist():
        piece = values[start:stop]
        piece = _widened(piece) if about is None else piece.cpu().double() - about
        yield piece.contiguous(), np.array([(0, stop - start)])


def by_kernel(values: Tensor, part: Stretches) -> tuple[Floats, Floats]:
    """Sums of x, x², x³, x⁴ of stretches [k, 4], and their ranges [k, 2], NaN if a value is.

    Args:
        values: fp32 or fp64 on the CPU, contiguous [n, D].
        part: The stretches.
    """
    from harness.probes import kernels

    array = values.numpy().reshape(-1)
    integer, sign, rest = _SINGLE if array.itemsize == 4 else _DOUBLE
    powers, ends = np.empty((len(part), 4)), np.empty((len(part), 2), integer)
    bounds = part * values.shape[1]
    kernels.power_sums(array, array.view(integer), sign, rest, bounds, powers, ends)
    return powers, ends.view(array.dtype).astype(np.float64)


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
    from harness.probes import kernels

    found = [
        kernels.count_outside(
            piece.numpy().reshape(-1), places * piece.shape[1], absolute, center, reach
        )
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


def _narrow(values: Tensor) -> bool:
    return values.dtype in (torch.float16, torch.bfloat16)


def _widened(values: Tensor) -> Tensor:
    return values.float() if _narrow(values) else values
